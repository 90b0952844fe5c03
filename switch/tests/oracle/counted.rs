//! What the switch counts of packets, beside what the oracle does.

use oracle::Outputs;
use oracle::pipeline::RuleHit;
use std::collections::BTreeMap;

/// What is counted of packets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets of each rule.
    pub rules: BTreeMap<RuleHit, u64>,
    /// Malformed headers.
    pub malformed: u64,
}

impl Counted {
    /// What the oracle counts.
    pub fn of(outputs: &[Outputs]) -> Counted {
        let mut counted = Counted::default();
        for outputs in outputs {
            counted.malformed += outputs.malformed;
            for rule in &outputs.rules {
                *counted.rules.entry(*rule).or_default() += 1;
            }
        }
        counted
    }
}

/// What came out of the switch: frames by port, and what it counted meanwhile.
pub struct Received {
    /// By port.
    pub frames: BTreeMap<String, Vec<Vec<u8>>>,
    /// What it counted.
    pub counted: Counted,
}

impl Received {
    /// Says what the switch has not counted as it should.
    pub fn miscounted(&self, expected: &[Outputs]) -> Option<String> {
        let counted = Counted::of(expected);
        let is_wrong = counted.rules != self.counted.rules || counted.malformed < self.counted.malformed;
        is_wrong.then(|| format!("to count {counted:?}\ncounted  {:?}", self.counted))
    }
}
