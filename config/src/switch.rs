//! `other_config` of the switch as a whole (OVS table `Open_vSwitch`): what of it the switch knows. It may change while
//! the switch runs.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::options::number;

/// Keys of the switch's `other_config` that it knows.
pub const SWITCH_OTHER_CONFIG: [&str; 1] = ["pmd-sleep-max"];

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

/// What is wrong with an entry of the switch's `other_config`.
///
/// # Errors
/// The message: what was found and what was expected.
pub fn check_switch_other_config(key: &str, value: &str) -> Result<(), String> {
    match key {
        "pmd-sleep-max" => value.parse::<SleepMax>().map(drop),
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
    fn every_key_is_checked() {
        for key in SWITCH_OTHER_CONFIG {
            let error = check_switch_other_config(key, "nonsense").unwrap_err();
            assert!(error.contains("nonsense"), "{key}: {error}");
        }
        assert!(check_switch_other_config("dpdk-init", "true").unwrap_err().contains("[dpdk]"));
    }
}
