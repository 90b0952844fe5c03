//! Properties: type, length, content, and padding that the length does not count.

use crate::coder::{Coder, Step};

/// Writes the properties that are there, or reads those that come, each by its type.
pub fn each<C: Coder>(
    c: &mut C,
    present: &[(u16, bool)],
    mut content: impl FnMut(&mut C, u16) -> Step,
) -> Step {
    let mut one = |c: &mut C, mut kind: u16| {
        let start = c.offset();
        c.u16(&mut kind)?;
        let length = c.length16()?;
        c.counted_from(start, length, |c| content(c, kind))?;
        c.align(start)
    };
    if !C::READS {
        return present.iter().filter(|row| row.1).try_for_each(|row| one(c, row.0));
    }
    while c.more(false) {
        one(c, 0)?;
    }
    Ok(())
}

/// A property that is not known and may be passed over.
pub fn unknown(c: &mut impl Coder, _kind: u16) -> Step {
    c.rest(&mut Vec::new())
}
