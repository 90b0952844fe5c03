//! Where a database server is.

use std::fmt;
use std::path::PathBuf;

/// `unix:FILE` or `tcp:HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host, IPv6 addresses in brackets, and a port.
    Tcp(String, u16),
}

/// Text that names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: expected unix:FILE or tcp:HOST:PORT{1}")]
pub struct TargetError(String, &'static str);

/// Port of the OVSDB protocol, where the text says none.
const PORT: u16 = 6640;

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let error = |why| TargetError(text.to_owned(), why);
        let Some((kind, rest)) = text.split_once(':') else { return Err(error("")) };
        match kind {
            "unix" if !rest.is_empty() => Ok(Target::Unix(rest.into())),
            "tcp" if !rest.is_empty() => {
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !host.is_empty() && !port.contains(']') => {
                        (host, port.parse().ok())
                    }
                    _ => (rest, Some(PORT)),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                port.map(|port| Target::Tcp(host.to_owned(), port)).ok_or_else(|| error(""))
            }
            "ssl" => Err(error(" (TLS is not served)")),
            "ptcp" | "pssl" | "punix" => Err(error(" (the database server listens, the switch connects)")),
            _ => Err(error("")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Tcp(host, port) if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Target::Tcp(host, port) => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for text in ["unix:/run/db.sock", "tcp:127.0.0.1:6640", "tcp:[::1]:6641", "tcp:host:1"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:10.0.0.1".parse(), Ok(Target::Tcp("10.0.0.1".into(), 6640)));
        assert_eq!("tcp:[::1]".parse(), Ok(Target::Tcp("::1".into(), 6640)));
        for bad in ["", "unix:", "db.sock", "tcp:", "tcp:h:99999", "ssl:1.2.3.4:6640", "punix:/x", "what:1"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
