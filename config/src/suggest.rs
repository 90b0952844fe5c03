//! "Did you mean": the known spelling nearest to a wrong one.

/// The name among `known` that `word` most likely stands for, if one is near: few edits away, or one
/// continues the other (`mtu_request` and `mtu`, `ports` and `port`). Case, `-` and `_` do not count.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // A word this long is no typing error, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let word = fold(word);
    known
        .iter()
        .map(|name| {
            let folded = fold(name);
            let continues = word.len() > 2
                && folded.len() > 2
                && (word.starts_with(folded.as_str()) || folded.starts_with(word.as_str()));
            (if continues { 1 } else { distance(&word, &folded) }, *name)
        })
        .filter(|(edits, name)| *edits <= (name.len() / 3).max(1))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

fn fold(word: &str) -> String {
    word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Edit distance in which swapping two neighbours is one edit (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitute = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitute.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        let known = ["name", "type", "options", "tag", "trunks", "mtu", "dst_port"];
        assert_eq!(nearest("tpye", &known), Some("type"));
        assert_eq!(nearest("option", &known), Some("options"));
        assert_eq!(nearest("dst-port", &known), Some("dst_port"));
        assert_eq!(nearest("mtu_request", &known), Some("mtu"));
        assert_eq!(nearest("Name", &known), Some("name"));
        assert_eq!(nearest("zzz", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), &known), None);
    }
}
