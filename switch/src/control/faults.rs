//! Devices that do not run although the document wants them: why, and when they are tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time to the second try; doubles with each that fails.
const FIRST: Duration = Duration::from_secs(1);
/// Longest time between two tries.
const LONGEST: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct Fault {
    error: String,
    wait: Duration,
    next: Instant,
}

/// Ports without their devices, by name. Shared by control, which tries them, and whoever shows them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<BTreeMap<String, Fault>>>);

impl Faults {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<String, Fault>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A port's device did not start.
    pub fn note(&self, port: &str, error: &str, now: Instant) {
        self.with(|faults| {
            let wait = faults.get(port).map_or(FIRST, |before| (before.wait * 2).min(LONGEST));
            let fault = Fault { error: error.to_owned(), wait, next: now + wait };
            faults.insert(port.to_owned(), fault);
        });
    }

    /// A port runs, or is no longer wanted.
    pub fn clear(&self, port: &str) -> bool {
        self.with(|faults| faults.remove(port).is_some())
    }

    /// What is wrong with a port, if anything.
    pub fn error(&self, port: &str) -> Option<String> {
        self.with(|faults| faults.get(port).map(|fault| fault.error.clone()))
    }

    /// All ports with what is wrong with them.
    pub fn all(&self) -> Vec<(String, String)> {
        self.with(|faults| faults.iter().map(|(port, fault)| (port.clone(), fault.error.clone())).collect())
    }

    /// The ports whose turn it is.
    pub fn due(&self, now: Instant) -> Vec<String> {
        self.with(|faults| {
            faults.iter().filter(|(_, fault)| fault.next <= now).map(|(port, _)| port.clone()).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_further_and_further_apart() {
        let faults = Faults::default();
        let start = Instant::now();
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..8 {
            faults.note("p0", "no such device", now);
            let due = (1..200).find(|s| !faults.due(now + Duration::from_secs(*s)).is_empty()).unwrap();
            waits.push(due);
            now += Duration::from_secs(due);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(faults.all(), [("p0".to_owned(), "no such device".to_owned())]);
        assert!(faults.clear("p0") && !faults.clear("p0"));
        assert_eq!(faults.error("p0"), None);
    }
}
