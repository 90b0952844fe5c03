//! Changes of some buckets of a group: `insert-buckets` and `remove-buckets`.

use super::error::ParseError;
use super::group::{BUCKET_MAX, Bucket, GROUP_MAX, GroupKind, GroupSpec, parse_group};
use super::port::PortNames;
use super::token::{Syntax, Token, Tokens};
use super::value::number_up_to;

/// Where buckets go, or which go: `command_bucket_id`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BucketPlace {
    /// The first; new ones come before all others.
    First,
    /// The last; new ones come behind all others.
    Last,
    /// All; for removal only.
    All,
    /// The one with this number; new ones come behind it.
    Id(u32),
}

/// Why buckets cannot change so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BucketError {
    /// A number that the group has already.
    #[error("there is a bucket {0}")]
    Exists(u32),
    /// A number that it does not have.
    #[error("there is no bucket {0}")]
    Unknown(u32),
}

impl GroupSpec {
    /// Adds buckets.
    ///
    /// # Errors
    /// A number is there twice, or the place is not there; nothing has changed then.
    pub fn insert_buckets(&mut self, place: BucketPlace, new: &[Bucket]) -> Result<(), BucketError> {
        if let Some(twice) = new.iter().find(|new| self.buckets.iter().any(|old| old.id == new.id)) {
            return Err(BucketError::Exists(twice.id));
        }
        let at = match place {
            BucketPlace::First => 0,
            BucketPlace::Last | BucketPlace::All => self.buckets.len(),
            BucketPlace::Id(id) => 1 + self.bucket_at(id)?,
        };
        self.buckets.splice(at..at, new.iter().cloned());
        Ok(())
    }

    /// Removes one bucket, or all. Of none there is neither a first nor a last.
    ///
    /// # Errors
    /// The place is not there.
    pub fn remove_buckets(&mut self, place: BucketPlace) -> Result<(), BucketError> {
        match place {
            BucketPlace::All => self.buckets.clear(),
            BucketPlace::First if self.buckets.is_empty() => {}
            BucketPlace::First => drop(self.buckets.remove(0)),
            BucketPlace::Last => drop(self.buckets.pop()),
            BucketPlace::Id(id) => {
                let at = self.bucket_at(id)?;
                self.buckets.remove(at);
            }
        }
        Ok(())
    }

    fn bucket_at(&self, id: u32) -> Result<usize, BucketError> {
        self.buckets.iter().position(|bucket| bucket.id == id).ok_or(BucketError::Unknown(id))
    }
}

/// What `insert-buckets` and `remove-buckets` take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketChange {
    /// Number of the group.
    pub group: u32,
    /// `command_bucket_id`.
    pub place: BucketPlace,
    /// The new buckets; none to remove some.
    pub buckets: Vec<Bucket>,
}

/// Parses what `insert-buckets` and `remove-buckets` take: `group_id=1,command_bucket_id=last,bucket=bucket_id:7,actions=output:p1`.
/// `kind_of` says the type of a group, which buckets are read by.
pub fn parse_bucket_change(
    text: &str,
    kind_of: impl Fn(u32) -> Option<GroupKind>,
    names: &dyn PortNames,
) -> Result<BucketChange, ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    let (mut group, mut place, mut first) = (None, None, None);
    while let Some(token) = tokens.next()? {
        let value = token.value.unwrap_or("");
        match token.key {
            "group_id" => {
                let id = number_up_to(value, GROUP_MAX.into()).map_err(|e| token.error(e))? as u32;
                group = Some((id, token));
            }
            "command_bucket_id" => place = Some(bucket_place(&token, value)?),
            "bucket" | "buckets" => {
                first = Some(token.position);
                break;
            }
            _ => return Err(token.error("group_id=N, command_bucket_id=PLACE or bucket=BUCKET")),
        }
    }
    let missing = |what: &str| ParseError::new("", text.len(), what);
    let (id, token) = group.ok_or_else(|| missing("group_id=N, from 0 to 4294967040"))?;
    let place = place.ok_or_else(|| missing("command_bucket_id=first, last, all or N"))?;
    let kind = kind_of(id).ok_or_else(|| token.error("a group of the bridge; add-group adds one"))?;
    let buckets = match first {
        Some(first) => {
            let whole = format!("group_id={id},type={},{}", kind.name(), &text[first..]);
            parse_group(&whole, names)?.buckets
        }
        None => Vec::new(),
    };
    Ok(BucketChange { group: id, place, buckets })
}

fn bucket_place(token: &Token<'_>, text: &str) -> Result<BucketPlace, ParseError> {
    Ok(match text {
        "first" => BucketPlace::First,
        "last" => BucketPlace::Last,
        "all" => BucketPlace::All,
        _ => BucketPlace::Id(number_up_to(text, BUCKET_MAX.into()).map_err(|e| token.error(e))? as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(group: &GroupSpec) -> Vec<u32> {
        group.buckets.iter().map(|bucket| bucket.id).collect()
    }

    #[test]
    fn buckets_come_and_go() {
        let text = "group_id=7,type=select,bucket=bucket_id:1,actions=1,bucket=bucket_id:2,actions=2";
        let mut group = parse_group(text, &()).unwrap();
        let kind = group.kind;
        let read = |text: &str| parse_bucket_change(text, |id| (id == 7).then_some(kind), &());
        for (text, left) in [
            ("group_id=7,command_bucket_id=first,bucket=bucket_id:3,weight:5,actions=3", vec![3, 1, 2]),
            ("group_id=7 command_bucket_id=last bucket=bucket_id:4,actions=4", vec![3, 1, 2, 4]),
            ("command_bucket_id=1,group_id=7,bucket=bucket_id:5,actions=drop", vec![3, 1, 5, 2, 4]),
        ] {
            let change = read(text).unwrap();
            group.insert_buckets(change.place, &change.buckets).unwrap();
            assert_eq!(ids(&group), left, "{text}");
        }
        assert_eq!(group.buckets[0].weight, 5);
        let twice = read("group_id=7,command_bucket_id=last,bucket=bucket_id:5,actions=1").unwrap();
        assert_eq!(group.insert_buckets(twice.place, &twice.buckets), Err(BucketError::Exists(5)));
        for (place, left) in [
            ("first", vec![1, 5, 2, 4]),
            ("last", vec![1, 5, 2]),
            ("5", vec![1, 2]),
            ("all", vec![]),
            ("first", vec![]),
        ] {
            let change = read(&format!("group_id=7,command_bucket_id={place}")).unwrap();
            group.remove_buckets(change.place).unwrap();
            assert_eq!(ids(&group), left, "{place}");
        }
        assert_eq!(group.remove_buckets(BucketPlace::Id(1)), Err(BucketError::Unknown(1)));
        for (wrong, expected) in [
            ("command_bucket_id=last", "group_id"),
            ("group_id=7", "command_bucket_id"),
            ("group_id=8,command_bucket_id=last", "a group of the bridge"),
            ("group_id=7,command_bucket_id=middle", "number"),
            ("group_id=7,type=all,command_bucket_id=last", "command_bucket_id"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }
}
