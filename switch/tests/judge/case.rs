//! A case: what both switches are set to and fed, and how many packets Open vSwitch is known to send.

use crate::compare::Captures;

/// A difference that is meant.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// Why we differ.
    pub why: &'static str,
    /// Turns what Open vSwitch sent into what we must send; it also gets the frames that came in, by port.
    pub ours: fn(sent: &mut Captures, input: &Captures),
}

/// A mirror of `br0`, ports by name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mirror {
    pub all: bool,
    pub src: &'static [&'static str],
    pub dst: &'static [&'static str],
    pub vlans: &'static [u16],
    pub output_port: Option<&'static str>,
    pub output_vlan: Option<u16>,
}

/// Bridge `br0` has `p1`, `p2`, ... with OpenFlow numbers 1, 2, ...; tunnels have 11, 12, ...; a patch port `pa` has
/// 21. Then `br1` has its peer `pb` as 21, and `q1` and `q2` as 1 and 2. With tunnels there is `br-phy` and its
/// `uplink`.
#[derive(Debug, Clone, Default)]
pub struct Case {
    pub name: String,
    pub flows: Vec<String>,
    pub groups: Vec<String>,
    pub meters: Vec<String>,
    /// TLV map of `br0`.
    pub tlvs: Vec<String>,
    pub mirrors: Vec<Mirror>,
    /// Flows of `br1`, if there is one.
    pub peer: Option<Vec<String>>,
    pub standalone: bool,
    pub other_config: Vec<(&'static str, &'static str)>,
    pub ports: usize,
    /// Port settings: port, key, value.
    pub vlans: Vec<(&'static str, &'static str, &'static str)>,
    /// Rules of `br-phy` instead of what it does by itself.
    pub phy: Option<Vec<String>>,
    /// Rules of `br-ext`, if there is one: it has the uplink, and a patch port `pv`, 22, whose peer is `pu`, 22, of
    /// `br-phy`.
    pub ext: Option<Vec<String>>,
    /// Tunnels.
    pub tunnels: Vec<Tunnel>,
    /// Frames by port, as expressions for scapy.
    pub input: Vec<(&'static str, Vec<String>)>,
    /// One port after another, because what one port brings teaches where to send what comes after it.
    pub ordered: bool,
    /// How many packets Open vSwitch sends, by port; none from others.
    pub sends: Vec<(&'static str, usize)>,
    pub differs: Option<Difference>,
}

/// A tunnel port.
#[derive(Debug, Clone)]
pub struct Tunnel {
    pub name: String,
    pub kind: String,
    pub options: Vec<(String, String)>,
}

/// A case without anything.
pub fn case(name: &str) -> Case {
    Case { name: name.to_owned(), ports: 3, ..Case::default() }
}

/// Packets that a match takes go to port 2, those that it leaves to port 3.
pub fn matches<S: Into<String>, T: Into<String>>(
    what: &str,
    takes: impl IntoIterator<Item = S>,
    leaves: impl IntoIterator<Item = T>,
) -> Case {
    let takes: Vec<String> = takes.into_iter().map(Into::into).collect();
    let leaves: Vec<String> = leaves.into_iter().map(Into::into).collect();
    let (yes, no) = (takes.len(), leaves.len());
    assert!(yes > 0 && no > 0, "{what}: a match that takes everything or nothing tests nothing");
    let prefix = what.replace(' ', ",");
    case(&format!("match {what}"))
        .flow(&format!("priority=10,{prefix},actions=output:2"))
        .flow("priority=1,actions=output:3")
        .rx("p1", takes.into_iter().chain(leaves))
        .tx("p2", yes)
        .tx("p3", no)
}

/// Every packet from port 1 has these actions, and leaves by port 2 as often as it came.
pub fn actions<S: Into<String>>(actions: &str, frames: impl IntoIterator<Item = S>) -> Case {
    let frames: Vec<String> = frames.into_iter().map(Into::into).collect();
    let count = frames.len();
    case(&format!("actions {actions}"))
        .flow(&format!("in_port=1,actions={actions}"))
        .rx("p1", frames)
        .tx("p2", count)
}

impl Case {
    /// Another name, where the rule alone does not say enough.
    pub fn named(mut self, name: &str) -> Case {
        name.clone_into(&mut self.name);
        self
    }

    pub fn flow(mut self, flow: &str) -> Case {
        self.flows.push(flow.to_owned());
        self
    }

    pub fn group(mut self, group: &str) -> Case {
        self.groups.push(group.to_owned());
        self
    }

    pub fn meter(mut self, meter: &str) -> Case {
        self.meters.push(meter.to_owned());
        self
    }

    pub fn tlv(mut self, tlv: &str) -> Case {
        self.tlvs.push(tlv.to_owned());
        self
    }

    pub fn mirror(mut self, mirror: Mirror) -> Case {
        self.mirrors.push(mirror);
        self
    }

    /// A patch port to `br1`, which has these flows.
    pub fn peer(mut self, flows: &[&str]) -> Case {
        self.peer = Some(flows.iter().map(|flow| (*flow).to_owned()).collect());
        self
    }

    /// Rules of `br-phy`, which does nothing else then.
    pub fn phy(mut self, flows: &[&str]) -> Case {
        self.phy = Some(flows.iter().map(|flow| (*flow).to_owned()).collect());
        self
    }

    /// The uplink is on a bridge of its own, with these rules.
    pub fn ext(mut self, flows: &[&str]) -> Case {
        self.ext = Some(flows.iter().map(|flow| (*flow).to_owned()).collect());
        self
    }

    /// `fail_mode=standalone`: NORMAL where no rule matches.
    pub fn standalone(mut self) -> Case {
        self.standalone = true;
        self
    }

    pub fn other_config(mut self, key: &'static str, value: &'static str) -> Case {
        self.other_config.push((key, value));
        self
    }

    /// How many device ports `br0` has.
    pub fn ports(mut self, count: usize) -> Case {
        self.ports = count;
        self
    }

    /// `tag`, `trunks`, `vlan_mode`, `cvlans` or `other_config:KEY` of a port.
    pub fn vlan(mut self, port: &'static str, key: &'static str, value: &'static str) -> Case {
        self.vlans.push((port, key, value));
        self
    }

    /// A vxlan port with these options, `key=value` separated by blanks. The first is `t1`, number 11.
    /// A tunnel port with these options; `type=TYPE` among them is its type, which is vxlan if there is none.
    pub fn tunnel(mut self, options: &str) -> Case {
        let name = format!("t{}", self.tunnels.len() + 1);
        let options = options.split_whitespace().map(|option| {
            let (key, value) = option.split_once('=').expect("key=value");
            (key.to_owned(), value.to_owned())
        });
        let (types, options): (Vec<_>, Vec<_>) = options.partition(|(key, _)| key == "type");
        let kind = types.into_iter().next().map_or_else(|| "vxlan".to_owned(), |(_, kind)| kind);
        self.tunnels.push(Tunnel { name, kind, options });
        self
    }

    pub fn rx<S: Into<String>>(mut self, port: &'static str, frames: impl IntoIterator<Item = S>) -> Case {
        assert!(self.input.iter().all(|(other, _)| *other != port), "{}: {port} twice", self.name);
        self.input.push((port, frames.into_iter().map(Into::into).collect()));
        self
    }

    pub fn ordered(mut self) -> Case {
        self.ordered = true;
        self
    }

    /// Open vSwitch sends so many from this port. Given again, the later number holds.
    pub fn tx(mut self, port: &'static str, count: usize) -> Case {
        self.sends.retain(|(other, _)| *other != port);
        if count > 0 {
            self.sends.push((port, count));
        }
        self
    }

    pub fn differs(mut self, why: &'static str, ours: fn(&mut Captures, &Captures)) -> Case {
        self.differs = Some(Difference { why, ours });
        self
    }

    /// How many packets Open vSwitch sends, by port, sorted.
    pub fn expected(&self) -> Vec<(String, usize)> {
        let mut all: Vec<_> = self.sends.iter().map(|(port, count)| ((*port).to_owned(), *count)).collect();
        all.sort();
        all
    }

    /// All device ports, with their OpenFlow numbers and bridges.
    pub fn devices(&self) -> Vec<(String, &'static str, usize)> {
        let mut all: Vec<_> = (1..=self.ports).map(|n| (format!("p{n}"), "br0", n)).collect();
        if self.peer.is_some() {
            all.extend((1..=2).map(|n| (format!("q{n}"), "br1", n)));
        }
        if self.underlay() {
            all.push(("uplink".to_owned(), if self.ext.is_some() { "br-ext" } else { "br-phy" }, 1));
        }
        all
    }

    /// Whether it needs `br-phy`.
    pub fn underlay(&self) -> bool {
        !self.tunnels.is_empty()
    }

    /// How many frames a port gets.
    pub fn count(&self, port: &str) -> usize {
        self.input.iter().find(|(name, _)| *name == port).map_or(0, |(_, frames)| frames.len())
    }
}
