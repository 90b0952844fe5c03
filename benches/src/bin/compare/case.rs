//! What is measured: a case is a traffic, a switch configuration, and a number of workers.

use serde::Serialize;

/// Which way the packets take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Port to port, one rule.
    L2,
    /// Port to tunnel, one rule.
    Encap,
    /// Tunnel to port, one rule.
    Decap,
    /// Learning bridge between port and tunnel, traffic in both directions at once.
    Normal,
    /// Port to tunnel under rules with 20 masks.
    Acl,
    /// New flows without end beside a thousand established ones.
    Setup,
    /// Packets that make as many masks as they can out of ordinary rules (tuple space explosion) beside a thousand
    /// established flows of another port, whose packets count.
    Tse,
    /// The same rules and ports, but one flow where those packets were: the other measure for it.
    TseCalm,
    /// [`Kind::VtepsEncap`] with a single remote VTEP behind all rules.
    VtepEncap,
    /// [`Kind::Encap`] to 250 remote VTEPs, each with its VNI.
    VtepsEncap,
    /// [`Kind::Decap`] from 250 remote VTEPs.
    VtepsDecap,
}

/// Lengths of the inner frames, bytes without FCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lengths {
    /// 60: the shortest.
    Shortest,
    /// 60, 566 and 1,400 as 7 to 4 to 1.
    Imix,
    /// 1,400.
    Large,
}

impl Lengths {
    /// Length of frame `n`.
    pub fn of(self, n: usize) -> usize {
        const IMIX: [usize; 12] = [60, 566, 60, 60, 566, 60, 1400, 566, 60, 60, 566, 60];
        match self {
            Lengths::Shortest => 60,
            Lengths::Imix => IMIX[n % IMIX.len()],
            Lengths::Large => 1400,
        }
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Its name, unique: `encap-60k`.
    pub name: String,
    /// Configuration and direction.
    pub kind: Kind,
    /// Different flows; as many packets are generated and repeated for ever.
    pub flows: usize,
    /// Lengths.
    pub lengths: Lengths,
    /// Worker lcores, each with an RX queue of its own.
    pub workers: usize,
    /// Whether `--quick` includes it.
    pub quick: bool,
}

impl Case {
    fn new(name: &str, kind: Kind, flows: usize) -> Case {
        Case { name: name.to_owned(), kind, flows, lengths: Lengths::Shortest, workers: 1, quick: false }
    }

    fn quick(mut self) -> Case {
        self.quick = true;
        self
    }

    fn lengths(mut self, lengths: Lengths) -> Case {
        self.lengths = lengths;
        self
    }

    fn workers(mut self, workers: usize) -> Case {
        self.workers = workers;
        self
    }

    /// Packet buffers that the devices need: `net_pcap` keeps the whole file in them.
    pub fn mbufs(&self) -> usize {
        let sources = if self.kind == Kind::Normal { 2 } else { 1 };
        (self.flows * sources + 16_384).next_power_of_two() - 1
    }
}

/// Numbers of flows at which `encap` and `decap` are measured, with their names.
pub const SERIES: [(usize, &str); 5] =
    [(1, "1"), (1000, "1k"), (8000, "8k"), (60_000, "60k"), (1_000_000, "1m")];

/// All cases, in the order in which they are measured.
pub fn all() -> Vec<Case> {
    let mut cases = vec![Case::new("l2", Kind::L2, 1000).quick()];
    for (prefix, kind) in [("encap", Kind::Encap), ("decap", Kind::Decap)] {
        for (flows, suffix) in SERIES {
            let case = Case::new(&format!("{prefix}-{suffix}"), kind, flows);
            cases.push(if matches!(flows, 1000 | 60_000) { case.quick() } else { case });
        }
    }
    cases.push(Case::new("normal-1k", Kind::Normal, 1000).quick());
    cases.push(Case::new("normal-60k", Kind::Normal, 60_000));
    cases.push(Case::new("acl", Kind::Acl, 60_000));
    cases.push(Case::new("setup", Kind::Setup, 200_000));
    cases.push(Case::new("tse", Kind::Tse, 60_000));
    cases.push(Case::new("tse-calm", Kind::TseCalm, 60_000));
    // One remote behind the very rules of `vteps-encap`, which look at destination addresses: the other measure for it.
    cases.push(Case::new("vtep-encap", Kind::VtepEncap, 1000));
    cases.push(Case::new("vteps-encap", Kind::VtepsEncap, 1000));
    cases.push(Case::new("vteps-decap", Kind::VtepsDecap, 1000));
    for (prefix, kind) in [("encap", Kind::Encap), ("decap", Kind::Decap)] {
        let case = |suffix: &str| Case::new(&format!("{prefix}-{suffix}"), kind, 1000);
        cases.push(case("imix").lengths(Lengths::Imix));
        cases.push(case("1400").lengths(Lengths::Large));
        cases.push(case("2workers").workers(2));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_quick_is_a_part() {
        let cases = all();
        let names: std::collections::BTreeSet<_> = cases.iter().map(|c| &c.name).collect();
        assert_eq!(names.len(), cases.len());
        let quick = cases.iter().filter(|c| c.quick).count();
        assert!(quick > 0 && quick < cases.len());
    }

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let count = |len| (0..12).filter(|n| Lengths::Imix.of(*n) == len).count();
        assert_eq!((count(60), count(566), count(1400)), (7, 4, 1));
    }

    #[test]
    fn mbufs_hold_the_file() {
        assert!(all().iter().all(|c| c.mbufs() >= c.flows + 8192));
    }
}
