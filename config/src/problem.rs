//! What is wrong with a document, where, and what was expected.

use std::fmt;

/// What sort of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The text is not TOML.
    Syntax,
    /// Something required is not there.
    Missing,
    /// Something is there that should not be, or not so.
    Invalid,
}

/// One problem of a document.
///
/// Displayed as `demo.toml:12: bridge br0, port vxlan1: options.key: 16777216 is over 24 bits, ...`; without
/// file and line when the document did not come out of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// Name of the file, as given to the parser.
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Where in the document, with indices from 0: `bridge[0].port[1].options.key`.
    pub path: String,
    /// The same for people, by names: `bridge br0, port vxlan1: options.key`. Empty for the whole file.
    pub place: String,
    /// What was found and what was expected.
    pub message: String,
    /// The sort of problem.
    pub kind: Kind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of a file, sorted by line. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A place in a document, for machines (`path`) and for people (`subject` and `field`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Site {
    path: String,
    subject: String,
    field: String,
}

impl Site {
    /// The `index`-th bridge.
    pub(crate) fn bridge(index: usize, name: &str) -> Self {
        let path = format!("bridge[{index}]");
        let subject = if name.is_empty() { path.clone() } else { format!("bridge {name}") };
        Self { path, subject, field: String::new() }
    }

    /// The `index`-th port of this bridge.
    pub(crate) fn port(&self, index: usize, name: &str) -> Self {
        let label = if name.is_empty() { format!("port[{index}]") } else { format!("port {name}") };
        Self {
            path: format!("{}.port[{index}]", self.path),
            subject: format!("{}, {label}", self.subject),
            field: String::new(),
        }
    }

    /// The `index`-th mirror of this bridge.
    pub(crate) fn mirror(&self, index: usize, name: &str) -> Self {
        let label = if name.is_empty() { format!("mirror[{index}]") } else { format!("mirror {name}") };
        Self {
            path: format!("{}.mirror[{index}]", self.path),
            subject: format!("{}, {label}", self.subject),
            field: String::new(),
        }
    }

    /// A field of this place.
    pub(crate) fn field(&self, name: &str) -> Self {
        let join = |base: &str| if base.is_empty() { name.to_owned() } else { format!("{base}.{name}") };
        Self { path: join(&self.path), subject: self.subject.clone(), field: join(&self.field) }
    }

    /// An element of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            subject: self.subject.clone(),
            field: format!("{}[{index}]", self.field),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A problem at this place.
    pub(crate) fn problem(&self, kind: Kind, message: impl Into<String>) -> Problem {
        let place = match (self.subject.is_empty(), self.field.is_empty()) {
            (true, _) => self.field.clone(),
            (false, true) => self.subject.clone(),
            (false, false) => format!("{}: {}", self.subject, self.field),
        };
        Problem { file: None, line: None, path: self.path.clone(), place, message: message.into(), kind }
    }

    /// A problem with what is at this place.
    pub(crate) fn invalid(&self, message: impl Into<String>) -> Problem {
        self.problem(Kind::Invalid, message)
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}
