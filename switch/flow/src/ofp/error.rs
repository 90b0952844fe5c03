//! Why a flow's text was refused.

/// A piece of a flow's text that does not parse, and what should have stood there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}", shown(token))]
pub struct ParseError {
    /// The offending piece of the text, as it was written.
    pub token: String,
    /// Byte offset of `token` in the text.
    pub position: usize,
    /// What should have stood there.
    pub expected: String,
}

/// The token as an error message shows it: never empty, never long.
fn shown(token: &str) -> String {
    const LONGEST: usize = 80;
    if token.is_empty() {
        return "end of text".to_owned();
    }
    match token.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &token[..end]),
        None => token.to_owned(),
    }
}

impl ParseError {
    pub(crate) fn new(token: &str, position: usize, expected: impl Into<String>) -> ParseError {
        ParseError { token: token.to_owned(), position, expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message() {
        let error = ParseError::new("nw_src=10.0.0.300", 3, "an IPv4 address");
        assert_eq!(error.to_string(), "nw_src=10.0.0.300: expected an IPv4 address");
        assert_eq!(ParseError::new("", 0, "a field").to_string(), "end of text: expected a field");
        assert_eq!(ParseError::new(&"ä".repeat(100), 0, "x").to_string().chars().count(), 80 + 3 + 12);
    }
}
