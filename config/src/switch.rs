//! `other_config` of the switch as a whole (OVS table `Open_vSwitch`): what of it the switch knows; and of interfaces. It
//! may change while the switch runs.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::options::{boolean, number, number_in};

/// Keys of the switch's `other_config` that it knows.
pub const SWITCH_OTHER_CONFIG: [&str; 8] = [
    "vhost-sock-dir",
    "pmd-sleep-max",
    "pmd-rxq-assign",
    "pmd-rxq-isolate",
    "pmd-auto-lb",
    "pmd-auto-lb-rebal-interval",
    "pmd-auto-lb-load-threshold",
    "pmd-auto-lb-improvement-threshold",
];

/// Keys of a port's `other_config` that are in Open vSwitch those of table `Interface`; the others are those of table `Port`.
pub const INTERFACE_OTHER_CONFIG: [&str; 1] = ["pmd-rxq-affinity"];

/// Keys of a port's `other_config` of table `Port`.
pub const PORT_OTHER_CONFIG: [&str; 5] = [
    "qinq-ethtype",
    "priority-tags",
    "neigh-suppress",
    "mcast-snooping-flood",
    "mcast-snooping-flood-reports",
];

/// Longest `pmd-sleep-max`, microseconds (OVS: 10000).
pub const LONGEST_SLEEP: u32 = 10_000;

/// `pmd-sleep-max`: how long a worker that finds nothing to do may sleep at a time, in microseconds; 0: it polls on.
/// Written as Open vSwitch 3.2 takes it: a number for all, `LCORE:NUMBER` for one, or both, as `50,8:0,9:0`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SleepMax {
    all: Option<u32>,
    lcores: BTreeMap<u32, u32>,
}

impl SleepMax {
    /// That of all workers that have none of their own; `None`: not said.
    pub fn all(&self) -> Option<u32> {
        self.all
    }

    /// That of the worker on this lcore; `None`: not said.
    pub fn of(&self, lcore: u32) -> Option<u32> {
        self.lcores.get(&lcore).copied().or(self.all)
    }
}

impl FromStr for SleepMax {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "found {text:?}, expected microseconds from 0 to {LONGEST_SLEEP}, for single lcores as LCORE:MICROSECONDS, \
                 such as 50 or 50,8:0"
            )
        };
        let micros = |text: &str| {
            let value = number(text.trim()).and_then(|n| u32::try_from(n).ok());
            value.filter(|n| *n <= LONGEST_SLEEP).ok_or_else(wrong)
        };
        let mut sleep = SleepMax::default();
        for entry in text.split(',') {
            match entry.split_once(':') {
                Some((lcore, value)) => {
                    let lcore = number(lcore.trim()).and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong)?;
                    if sleep.lcores.insert(lcore, micros(value)?).is_some() {
                        return Err(format!("found {text:?}, in which lcore {lcore} stands twice"));
                    }
                }
                None if sleep.all.is_some() => {
                    return Err(format!("found {text:?}, in which two numbers are for all lcores"));
                }
                None => sleep.all = Some(micros(entry)?),
            }
        }
        Ok(sleep)
    }
}

/// `pmd-rxq-affinity`: lcores of single RX queues, as `QUEUE:LCORE`, joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RxqAffinity(pub BTreeMap<u16, u32>);

impl FromStr for RxqAffinity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("found {text:?}, expected QUEUE:LCORE, several joined by commas, such as 0:3,1:7");
        let mut lcores = BTreeMap::new();
        for entry in text.split(',').filter(|_| !text.trim().is_empty()) {
            let (queue, lcore) = entry.split_once(':').ok_or_else(wrong)?;
            let queue = number(queue.trim()).and_then(|n| u16::try_from(n).ok()).ok_or_else(wrong)?;
            let lcore = number(lcore.trim()).and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong)?;
            if lcores.insert(queue, lcore).is_some() {
                return Err(format!("found {text:?}, in which queue {queue} stands twice"));
            }
        }
        Ok(RxqAffinity(lcores))
    }
}

/// `pmd-rxq-assign`: how RX queues are shared out over the workers when they are rebalanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RxqAssign {
    /// In turn.
    RoundRobin,
    /// In turn, the busiest ones first, from the first worker to the last and back.
    #[default]
    Cycles,
    /// The busiest ones first, each to the worker that has least to do so far.
    Group,
}

impl FromStr for RxqAssign {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "roundrobin" => Ok(Self::RoundRobin),
            "cycles" => Ok(Self::Cycles),
            "group" => Ok(Self::Group),
            _ => Err(format!("found {text:?}, expected roundrobin, cycles or group")),
        }
    }
}

/// `pmd-auto-lb` and what belongs to it: when RX queues are rebalanced automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoLb {
    /// Minutes between two looks.
    pub interval: u64,
    /// Load of a worker, percent, from which on it is looked for something better.
    pub load: u64,
    /// How much less the loads have to vary then, percent, for queues to be moved.
    pub improvement: u64,
}

/// Numbers of [`AutoLb`], with their ranges and defaults, which are those of Open vSwitch.
const AUTO_LB: [(&str, (u64, u64), u64); 3] = [
    ("pmd-auto-lb-rebal-interval", (0, 20_000), 1),
    ("pmd-auto-lb-load-threshold", (0, 100), 95),
    ("pmd-auto-lb-improvement-threshold", (0, 100), 25),
];

/// What `other_config` says of it; `None`: queues stay where they are.
pub(crate) fn auto_lb(other_config: &BTreeMap<String, String>) -> Option<AutoLb> {
    if other_config.get("pmd-auto-lb").is_none_or(|text| text != "true") {
        return None;
    }
    let [interval, load, improvement] = AUTO_LB.map(|(key, (low, high), default)| {
        let value = other_config.get(key).and_then(|text| number_in(text, low, high).ok());
        value.unwrap_or(default)
    });
    // As in Open vSwitch 0 is the default, too.
    Some(AutoLb { interval: if interval == 0 { 1 } else { interval }, load, improvement })
}

/// What is wrong with an entry of the switch's `other_config`.
///
/// # Errors
/// The message: what was found and what was expected.
pub fn check_switch_other_config(key: &str, value: &str) -> Result<(), String> {
    match key {
        "pmd-sleep-max" => value.parse::<SleepMax>().map(drop),
        "pmd-rxq-assign" => value.parse::<RxqAssign>().map(drop),
        "vhost-sock-dir" => crate::options::vhost_directory(value),
        "pmd-rxq-isolate" | "pmd-auto-lb" => boolean(value).map(drop),
        _ if AUTO_LB.iter().any(|(name, ..)| *name == key) => {
            let range = AUTO_LB.iter().find(|(name, ..)| *name == key).map_or((0, 0), |(_, range, _)| *range);
            number_in(value, range.0, range.1).map(drop)
        }
        _ => Err(format!(
            "unknown key, expected {}; memory and limits are settings of the file's [dpdk] and [datapath] tables",
            SWITCH_OTHER_CONFIG.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_of_all_and_of_single_lcores() {
        let sleep: SleepMax = "50, 8:0,9:200".parse().unwrap();
        assert_eq!([sleep.of(8), sleep.of(9), sleep.of(1)], [Some(0), Some(200), Some(50)]);
        let sleep: SleepMax = "10:100".parse().unwrap();
        assert_eq!((sleep.of(10), sleep.of(1), sleep.all()), (Some(100), None, None));
        assert_eq!("0".parse::<SleepMax>().unwrap().of(3), Some(0));
        for (text, expected) in [
            ("", "expected microseconds"),
            ("10001", "from 0 to 10000"),
            ("-1", "expected microseconds"),
            ("x:1", "LCORE:MICROSECONDS"),
            ("1:", "expected microseconds"),
            ("1,2", "two numbers"),
            ("1:2,1:3", "lcore 1 stands twice"),
        ] {
            let error = text.parse::<SleepMax>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn queues_have_lcores() {
        let affinity: RxqAffinity = "0:3, 1:7".parse().unwrap();
        assert_eq!(affinity.0, [(0, 3), (1, 7)].into());
        assert_eq!("".parse(), Ok(RxqAffinity::default()));
        for (text, expected) in [
            ("0", "expected QUEUE:LCORE"),
            ("0:", "expected QUEUE:LCORE"),
            ("65536:1", "expected QUEUE:LCORE"),
            ("0:1,", "expected QUEUE:LCORE"),
            ("0:1,0:2", "queue 0 stands twice"),
        ] {
            let error = text.parse::<RxqAffinity>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn balancing_has_open_vswitchs_defaults() {
        let config =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(auto_lb(&config(&[("pmd-auto-lb-load-threshold", "50")])), None);
        assert_eq!(
            auto_lb(&config(&[("pmd-auto-lb", "true"), ("pmd-auto-lb-rebal-interval", "0")])),
            Some(AutoLb { interval: 1, load: 95, improvement: 25 })
        );
        let set = [
            ("pmd-auto-lb", "true"),
            ("pmd-auto-lb-load-threshold", "50"),
            ("pmd-auto-lb-rebal-interval", "7"),
        ];
        assert_eq!(auto_lb(&config(&set)), Some(AutoLb { interval: 7, load: 50, improvement: 25 }));
    }

    #[test]
    fn every_key_is_checked() {
        for key in SWITCH_OTHER_CONFIG {
            let error = check_switch_other_config(key, "/nonsense").unwrap_err();
            assert!(error.contains("/nonsense"), "{key}: {error}");
        }
        assert!(check_switch_other_config("dpdk-init", "true").unwrap_err().contains("[dpdk]"));
    }
}
