//! Cutting a flow's text into `key`, `key=value`, `key:value` and `key(value)`.

use super::error::ParseError;

/// A piece of a flow's text between commas or white space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// All of it.
    pub text: &'a str,
    /// Byte offset in the whole text.
    pub position: usize,
    /// What stands before the separator.
    pub key: &'a str,
    /// What stands behind the separator, or between the parentheses.
    pub value: Option<&'a str>,
    /// Byte offset of the value in the whole text.
    pub value_position: usize,
}

impl Token<'_> {
    pub fn error(&self, expected: impl Into<String>) -> ParseError {
        ParseError::new(self.text, self.position, expected)
    }
}

/// The bytes that end a key: `=` in matches, `:`, `=` and `(` in actions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Match,
    Actions,
}

/// Cuts text at commas and white space outside of quotes and parentheses.
pub(super) struct Tokens<'a> {
    text: &'a str,
    /// Offset of `text` in what the user wrote.
    base: usize,
    /// Where the next token is looked for.
    at: usize,
    syntax: Syntax,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str, base: usize, syntax: Syntax) -> Self {
        Tokens { text, base, at: 0, syntax }
    }

    /// The text not yet cut and its offset.
    pub fn rest(&self) -> (&'a str, usize) {
        (&self.text[self.at..], self.base + self.at)
    }

    /// The next token, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Token<'a>>, ParseError> {
        let separator = |b: u8| b == b',' || b.is_ascii_whitespace();
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).copied().is_some_and(separator) {
            self.at += 1;
        }
        let start = self.at;
        let (mut depth, mut quoted) = (0usize, false);
        let mut end = start;
        while let Some(&b) = bytes.get(end) {
            match b {
                b'\\' if quoted => end += 1,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'(' => depth += 1,
                b')' => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => return Err(self.error(start, end + 1, "no ) without a ( before it")),
                },
                _ if depth == 0 && separator(b) => break,
                _ => {}
            }
            end += 1;
        }
        // A backslash at the very end steps past it, or into a character.
        if quoted {
            return Err(self.error(start, bytes.len(), "a closing quote"));
        }
        if depth > 0 {
            return Err(self.error(start, bytes.len(), "a closing parenthesis"));
        }
        self.at = end;
        if start == end {
            return Ok(None);
        }
        self.cut(start, end).map(Some)
    }

    fn error(&self, start: usize, end: usize, expected: &str) -> ParseError {
        ParseError::new(&self.text[start..end], self.base + start, expected)
    }

    fn cut(&self, start: usize, end: usize) -> Result<Token<'a>, ParseError> {
        let text = &self.text[start..end];
        let ends_key = |c: char| c == '=' || self.syntax == Syntax::Actions && (c == ':' || c == '(');
        // A quoted name is a key of its own, whatever is in it.
        let key_end = if text.starts_with('"') { None } else { text.find(ends_key) };
        let mut token = Token {
            text,
            position: self.base + start,
            key: text,
            value: None,
            value_position: self.base + end,
        };
        if let Some(at) = key_end {
            token.key = &text[..at];
            token.value_position = self.base + start + at + 1;
            let mut value = &text[at + 1..];
            // `check_pkt_larger(1500)->reg0[0]` goes on behind its parenthesis.
            if text.as_bytes()[at] == b'(' && !(token.key == "check_pkt_larger" && value.contains(")->")) {
                value = value
                    .strip_suffix(')')
                    .ok_or_else(|| token.error("nothing behind the ) that closes it"))?;
            }
            token.value = Some(value);
        }
        Ok(token)
    }
}
