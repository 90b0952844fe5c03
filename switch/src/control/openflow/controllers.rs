//! The controllers that bridges shall have, and which of them are connected.

use openflow::Version;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// IANA's port of OpenFlow.
const PORT: u16 = 6653;

/// Where a controller is (`Controller` `target`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// It listens on a host and a port.
    Tcp(String, u16),
    /// It listens on a Unix socket.
    Unix(PathBuf),
    /// It connects to this port, on this address of ours.
    PassiveTcp(u16, String),
    /// It connects to this Unix socket of ours.
    PassiveUnix(PathBuf),
}

/// Text that names no controller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: expected tcp:HOST:PORT, unix:FILE, ptcp:PORT:ADDRESS or punix:FILE{1}")]
pub struct TargetError(String, &'static str);

impl Target {
    /// Whether it waits for controllers that connect to it.
    pub fn is_passive(&self) -> bool {
        matches!(self, Target::PassiveTcp(..) | Target::PassiveUnix(_))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let error = |why| TargetError(text.to_owned(), why);
        let (kind, rest) = text.split_once(':').ok_or_else(|| error(""))?;
        let host = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
        match kind {
            "unix" if !rest.is_empty() => Ok(Target::Unix(rest.into())),
            "punix" if !rest.is_empty() => Ok(Target::PassiveUnix(rest.into())),
            "tcp" if !rest.is_empty() => match rest.rsplit_once(':') {
                Some((name, port)) if !name.is_empty() && !port.contains(']') => {
                    Ok(Target::Tcp(host(name), port.parse().map_err(|_| error(""))?))
                }
                _ => Ok(Target::Tcp(host(rest), PORT)),
            },
            "ptcp" => {
                let (port, address) = rest.split_once(':').unwrap_or((rest, "0.0.0.0"));
                let port = if port.is_empty() { Ok(PORT) } else { port.parse().map_err(|_| error("")) };
                Ok(Target::PassiveTcp(port?, host(address)))
            }
            "ssl" | "pssl" => Err(error(" (TLS is not served)")),
            _ => Err(error("")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed =
            |host: &String| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Target::Tcp(host, port) => write!(f, "tcp:{}:{port}", bracketed(host)),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::PassiveTcp(port, address) => write!(f, "ptcp:{port}:{}", bracketed(address)),
            Target::PassiveUnix(path) => write!(f, "punix:{}", path.display()),
        }
    }
}

/// What there is to say of a bridge's controller.
#[derive(Debug, Default)]
struct State {
    /// How many connections there are.
    connections: usize,
    /// Why the last connection ended or did not come up.
    last_error: Option<String>,
}

type States = BTreeMap<String, BTreeMap<Target, State>>;

/// Bridges' controllers.
#[derive(Debug, Default)]
pub struct Controllers {
    /// By bridge and target.
    states: Mutex<States>,
    /// Versions that bridges speak; those that are not there speak all.
    versions: Mutex<BTreeMap<String, Vec<Version>>>,
    /// How often bridges were asked to connect anew.
    reconnects: Mutex<BTreeMap<String, u64>>,
}

impl Controllers {
    fn with<R>(&self, act: impl FnOnce(&mut States) -> R) -> R {
        act(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bridges shall have these controllers, and others none.
    pub fn set(&self, wanted: &BTreeMap<String, Vec<Target>>) {
        self.with(|all| {
            all.retain(|bridge, _| wanted.contains_key(bridge));
            for (bridge, targets) in wanted {
                let here = all.entry(bridge.clone()).or_default();
                here.retain(|target, _| targets.contains(target));
                for target in targets {
                    here.entry(target.clone()).or_default();
                }
            }
        });
    }

    /// Bridges shall speak these versions on new connections.
    pub fn set_versions(&self, versions: BTreeMap<String, Vec<Version>>) {
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = versions;
    }

    /// The versions that a bridge speaks.
    pub fn versions(&self, bridge: &str) -> Vec<Version> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.get(bridge).cloned().unwrap_or_else(|| Version::all().to_vec())
    }

    /// Bridges shall connect to their controllers anew.
    pub fn reconnect(&self, bridges: &[String]) {
        let mut reconnects = self.reconnects.lock().unwrap_or_else(PoisonError::into_inner);
        for bridge in bridges {
            *reconnects.entry(bridge.clone()).or_default() += 1;
        }
    }

    /// How often a bridge was asked to.
    pub(super) fn reconnects(&self, bridge: &str) -> u64 {
        let reconnects = self.reconnects.lock().unwrap_or_else(PoisonError::into_inner);
        reconnects.get(bridge).copied().unwrap_or_default()
    }

    /// The controllers that a bridge shall have.
    pub fn of(&self, bridge: &str) -> Vec<Target> {
        self.with(|all| all.get(bridge).map(|here| here.keys().cloned().collect()).unwrap_or_default())
    }

    /// A connection came (1) or went (-1).
    pub(super) fn count(&self, bridge: &str, target: &Target, by: isize) {
        self.with(|all| {
            if let Some(state) = all.get_mut(bridge).and_then(|here| here.get_mut(target)) {
                state.connections = state.connections.saturating_add_signed(by);
            }
        });
    }

    /// A connection ended or did not come up.
    pub(super) fn failed(&self, bridge: &str, target: &Target, error: &io::Error) {
        self.with(|all| {
            if let Some(state) = all.get_mut(bridge).and_then(|here| here.get_mut(target)) {
                state.last_error = Some(words(error));
            }
        });
    }

    /// Why the last connection to a bridge's controller ended or did not come up.
    pub fn last_error(&self, bridge: &str, target: &Target) -> Option<String> {
        self.with(|all| all.get(bridge)?.get(target)?.last_error.clone())
    }

    /// Whether a bridge's controller is connected.
    pub fn is_connected(&self, bridge: &str, target: &Target) -> bool {
        self.with(|all| {
            all.get(bridge).and_then(|here| here.get(target)).is_some_and(|state| state.connections > 0)
        })
    }
}

/// An error in Open vSwitch's words.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "End of file".to_owned(),
        io::ErrorKind::TimedOut => "Connection timed out".to_owned(),
        _ => {
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for text in
            ["tcp:127.0.0.1:6653", "tcp:[::1]:1", "unix:/x", "ptcp:6653:0.0.0.0", "ptcp:1:[::1]", "punix:/x"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:10.0.0.1".parse(), Ok(Target::Tcp("10.0.0.1".into(), 6653)));
        assert_eq!("ptcp:".parse(), Ok(Target::PassiveTcp(6653, "0.0.0.0".into())));
        for bad in ["", "tcp:", "tcp:h:99999", "ssl:1.2.3.4", "punix:", "ptcp:x", "what:1"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn connections_are_counted_while_their_controller_is_wanted() {
        let (all, target) = (Controllers::default(), Target::Unix("/x".into()));
        let wanted = [("br0".to_owned(), vec![target.clone()])].into();
        all.set(&wanted);
        assert!(!all.is_connected("br0", &target));
        assert_eq!(all.last_error("br0", &target), None);
        all.failed("br0", &target, &io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert_eq!(all.last_error("br0", &target).as_deref(), Some("Connection refused"));
        all.count("br0", &target, 1);
        all.set(&wanted);
        assert!(all.is_connected("br0", &target) && !all.is_connected("br1", &target));
        all.set(&BTreeMap::new());
        assert!(all.of("br0").is_empty() && !all.is_connected("br0", &target));
        // It went when it was not wanted any more.
        all.count("br0", &target, -1);
        all.set(&wanted);
        assert!(!all.is_connected("br0", &target));
    }
}
