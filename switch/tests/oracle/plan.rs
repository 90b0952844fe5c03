//! A case: what the switch is configured with, the frames that are sent to it, and what is changed in between.

use crate::frames::{Frame, Outer};
use crate::text;
use oracle::tunnel::Tunnel;
use oracle::{Bridge, Group, Kind, Mirror, Port, Rule, Vlan, World};
use std::fmt;
use std::net::Ipv4Addr;

/// The underlay's own address, as VTEPs know it.
pub const UNDERLAY_MAC: [u8; 6] = [2, 0, 0, 0, 0x0a, 1];
/// Addresses of the underlay.
pub const OWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(192, 168, 1, 9)];
/// Remote VTEPs.
pub const REMOTES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 168, 1, 2), Ipv4Addr::new(192, 168, 1, 3), Ipv4Addr::new(192, 168, 1, 4)];

/// A step.
#[derive(Debug, Clone)]
pub enum Step {
    /// A frame comes in by a device, so often at once.
    Send {
        port: &'static str,
        frame: usize,
        outer: Option<Outer>,
        times: usize,
    },
    /// Frames come in by a device at once, of several flows, perhaps out of several tunnels.
    Burst {
        port: &'static str,
        packets: Vec<(usize, Option<Outer>)>,
        /// Where the segments after the first begin, of one packet after the other, over and over; none for packets
        /// of one segment.
        cuts: Vec<Vec<usize>>,
    },
    /// `add-flow`; one with the same match and priority is replaced.
    AddRule {
        bridge: usize,
        rule: Rule,
    },
    /// `del-flows --strict` of one of the rules that are there.
    DeleteRule {
        bridge: usize,
        nth: usize,
    },
    /// `mod-flows --strict` of one of them: it gets the actions of this rule.
    ModifyRule {
        bridge: usize,
        nth: usize,
        actions: Vec<oracle::Action>,
    },
    /// `replace-flows`.
    ReplaceRules {
        bridge: usize,
        rules: Vec<Rule>,
    },
    /// All groups of a bridge.
    SetGroups {
        bridge: usize,
        groups: Vec<Group>,
    },
    /// All mirrors of a bridge.
    SetMirrors {
        bridge: usize,
        mirrors: Vec<Mirror>,
    },
    /// `fdb flush`.
    FlushFdb {
        bridge: usize,
    },
    /// `fdb add`: the port by position among the bridge's.
    AddFdb {
        bridge: usize,
        vlan: u16,
        mac: usize,
        port: usize,
    },
    /// `fdb del`.
    DeleteFdb {
        bridge: usize,
        vlan: u16,
        mac: usize,
    },
    /// Other VLANs for a port, by position.
    SetVlan {
        bridge: usize,
        port: usize,
        vlan: Vlan,
    },
    /// A tunnel port goes and comes back with other options.
    SetTunnel {
        port: usize,
        tunnel: Tunnel,
    },
    /// A device's link.
    SetAlive {
        bridge: usize,
        port: usize,
        alive: bool,
    },
    /// A device leaves its bridge, or comes back.
    RemovePort {
        bridge: usize,
        port: usize,
    },
    RestorePorts,
}

/// A case.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `br0`, `br1` behind a patch, and the underlay.
    pub world: World,
    /// MTU of the underlay's uplinks.
    pub mtu: u16,
    /// Frames to choose from.
    pub frames: Vec<Frame>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// The configuration file.
pub fn toml(world: &World, mtu: u16) -> String {
    world.bridges.iter().map(|bridge| bridge_toml(bridge, mtu)).collect()
}

fn bridge_toml(bridge: &Bridge, mtu: u16) -> String {
    let mut out = format!(
        "[[bridge]]\nname = \"{}\"\nfail_mode = \"{}\"\nhwaddr = \"{}\"\n",
        bridge.name,
        if bridge.standalone { "standalone" } else { "secure" },
        mac(bridge.mac)
    );
    if bridge.forward_bpdu {
        out += "other_config = { forward-bpdu = \"true\" }\n";
    }
    if !bridge.addresses.is_empty() {
        let addresses: Vec<String> = bridge.addresses.iter().map(|ip| format!("\"{ip}/24\"")).collect();
        out += &format!("address = [{}]\n", addresses.join(", "));
        let neighbours: Vec<String> = bridge
            .neighbours
            .iter()
            .map(|(ip, at)| format!("{{ ip = \"{ip}\", mac = \"{}\" }}", mac(*at)))
            .collect();
        out += &format!("neighbour = [{}]\n", neighbours.join(", "));
    }
    let mtu = if bridge.addresses.is_empty() { String::new() } else { format!("mtu = {mtu}\n") };
    out + &bridge.ports.iter().map(|port| text::toml(port) + &mtu).collect::<String>()
}

/// A MAC address as it is written.
pub fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

/// The topology that all cases have: devices, tunnels and patch of `br0`, devices of `br1`, two uplinks.
pub fn device(name: &str, ofport: u32) -> Port {
    Port { name: name.into(), ofport, vlan: Vlan::default(), alive: true, kind: Kind::Device }
}

/// A group in words like `add-group`'s.
fn group(group: &Group) -> String {
    let mut out = format!("group_id={},type={:?}", group.id, group.kind);
    for bucket in &group.buckets {
        out += &format!(",bucket=weight:{}", bucket.weight);
        if let Some(port) = bucket.watch_port {
            out += &format!(",watch_port:{port}");
        }
        if let Some(group) = bucket.watch_group {
            out += &format!(",watch_group:{group}");
        }
        out += &format!(",actions={}", text::actions(&bucket.actions));
    }
    out
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Send { port, frame, outer, times } => {
                write!(f, "send {port}: frame {frame}, {times} times")?;
                outer.map_or(Ok(()), |outer| write!(f, ", in {outer:?}"))
            }
            Step::Burst { port, packets, cuts } => {
                write!(f, "burst {port}, segments at {cuts:?}:")?;
                packets.iter().try_for_each(|(frame, outer)| match outer {
                    Some(outer) => write!(f, "\n      frame {frame}, in {outer:?}"),
                    None => write!(f, " {frame}"),
                })
            }
            Step::AddRule { bridge, rule } => write!(f, "add-flow {bridge} {}", text::rule(rule)),
            Step::DeleteRule { bridge, nth } => write!(f, "del-flows --strict {bridge}, rule {nth} of them"),
            Step::ModifyRule { bridge, nth, actions } => {
                write!(f, "mod-flows --strict {bridge}, rule {nth} of them: {}", text::actions(actions))
            }
            Step::ReplaceRules { bridge, rules } => {
                write!(f, "replace-flows {bridge}")?;
                rules.iter().try_for_each(|rule| write!(f, "\n      {}", text::rule(rule)))
            }
            Step::SetGroups { bridge, groups } => {
                write!(f, "groups {bridge}")?;
                groups.iter().try_for_each(|of| write!(f, "\n      {}", group(of)))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml(&self.world, self.mtu))?;
        for (n, frame) in self.frames.iter().enumerate() {
            let sends = |step: &Step| match step {
                Step::Send { frame, .. } => *frame == n,
                Step::Burst { packets, .. } => packets.iter().any(|(frame, _)| *frame == n),
                _ => false,
            };
            if self.steps.iter().any(sends) {
                writeln!(f, "frame {n}: {frame}")?;
            }
        }
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "{n:3}. {step}")?;
        }
        Ok(())
    }
}
