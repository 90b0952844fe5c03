//! Megaflows as `ovs-appctl dpctl/dump-flows` prints them.

use super::field::{Field, Layer};
use super::key::MatchKey;
use super::port::PortNames;
use super::print::port_name;
use super::value;
use std::fmt::Write;
use wire::key::{FlowKey, FlowMask, VLAN_PRESENT};

struct Printer<'a> {
    key: MatchKey,
    mask: MatchKey,
    names: &'a dyn PortNames,
}

impl Printer<'_> {
    /// The fields of some layers that have a mask, as `name=value` joined by commas.
    fn fields(&self, layers: &[Layer]) -> String {
        let mut out = String::new();
        for field in Field::all().filter(|field| layers.contains(&field.info().layer)) {
            let (Some(name), mask) = (field.info().megaflow_name, field.get(&self.mask)) else { continue };
            if mask != 0 {
                if !out.is_empty() {
                    out.push(',');
                }
                let _ = write!(out, "{name}=");
                value::format(&mut out, field, field.get(&self.key) & mask, mask, self.names);
            }
        }
        out
    }

    /// The tunnel's fields and, as `geneve({class=..,type=..,len=..,value})`, its options.
    fn tunnel(&self) -> Option<String> {
        let mut inner = self.fields(&[Layer::Tunnel]);
        let mut options = String::new();
        let looked_at = self.mask.flow.tun_metadata_present;
        for tlv in self.names.tlvs().tlvs().iter().filter(|tlv| looked_at & tlv.bit() != 0) {
            let field = Field::TunMetadata(*tlv);
            let _ = write!(options, "{{class={:#x},type={:#x},len={}", tlv.class, tlv.kind, tlv.len);
            let mask = field.get(&self.mask);
            if self.key.flow.tun_metadata_present & tlv.bit() == 0 {
                options.push_str(",absent");
            } else if mask != 0 {
                options.push(',');
                value::format(&mut options, field, field.get(&self.key) & mask, mask, self.names);
            }
            options.push('}');
        }
        if !options.is_empty() {
            let comma = if inner.is_empty() { "" } else { "," };
            let _ = write!(inner, "{comma}geneve({options})");
        }
        (!inner.is_empty()).then(|| format!("tunnel({inner})"))
    }

    /// `name(fields)`, if any of them has a mask.
    fn group(&self, name: &str, layers: &[Layer]) -> Option<String> {
        let inner = self.fields(layers);
        (!inner.is_empty()).then(|| format!("{name}({inner})"))
    }

    /// `vlan(vid=..,pcp=..)` of a tag.
    fn vlan(key: u16, mask: u16) -> String {
        let mut parts = Vec::new();
        for (name, shift, bits) in [("vid", 0, 0xfff), ("pcp", 13, 7)] {
            let (value, mask) = (key >> shift & bits, mask >> shift & bits);
            if mask == bits {
                parts.push(format!("{name}={value}"));
            } else if mask != 0 {
                parts.push(format!("{name}={value:#x}/{mask:#x}"));
            }
        }
        if mask & !key & VLAN_PRESENT != 0 {
            parts.push("cfi=0".to_owned());
        }
        format!("vlan({})", parts.join(","))
    }

    fn eth_type(&self) -> Option<String> {
        let (key, mask) = (self.key.flow.dl_type.get(), self.mask.flow.dl_type.get());
        match mask {
            0 => None,
            u16::MAX => Some(format!("eth_type({key:#06x})")),
            _ => Some(format!("eth_type({key:#06x}/{mask:#06x})")),
        }
    }

    /// From the EtherType upwards.
    fn network(&self) -> Vec<Option<String>> {
        let known = self.mask.flow.dl_type.get() == u16::MAX;
        let dl_type = if known { self.key.flow.dl_type.get() } else { 0 };
        let mut parts = vec![self.eth_type()];
        match dl_type {
            0x0806 | 0x8035 => {
                parts.push(self.group("arp", &[Layer::Arp]));
                return parts;
            }
            0x86dd => parts.push(self.group("ipv6", &[Layer::Ipv6, Layer::Ip])),
            _ => parts.push(self.group("ipv4", &[Layer::Ipv4, Layer::Ip])),
        }
        let proto = if self.mask.flow.nw_proto == u8::MAX { self.key.flow.nw_proto } else { 0 };
        match proto {
            1 => parts.push(self.group("icmp", &[Layer::Icmp])),
            58 => {
                parts.push(self.group("icmpv6", &[Layer::Icmp]));
                parts.push(self.group("nd", &[Layer::Nd]));
            }
            17 => parts.push(self.group("udp", &[Layer::Transport])),
            132 => parts.push(self.group("sctp", &[Layer::Transport])),
            6 => parts.push(self.group("tcp", &[Layer::Transport])),
            _ => parts.push(self.group("tp", &[Layer::Transport])),
        }
        let mask = Field::TcpFlags.get(&self.mask);
        parts.push((mask != 0).then(|| {
            let mut flags = String::new();
            let value = Field::TcpFlags.get(&self.key) & mask;
            value::format(&mut flags, Field::TcpFlags, value, mask, self.names);
            format!("tcp_flags({flags})")
        }));
        parts
    }
}

fn join(parts: impl IntoIterator<Item = Option<String>>) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// Prints a megaflow's key and mask in `ovs-dpctl` style: only what the mask looks at. Empty for a
/// megaflow that looks at nothing.
///
/// A tagged packet's upper layers stand in `encap(...)`. `tun_id` and the outer addresses stand in `tunnel(...)`.
pub fn format_megaflow(key: &FlowKey, mask: &FlowMask, names: &dyn PortNames) -> String {
    let p = Printer { key: key.masked(mask).into(), mask: (*mask).into(), names };
    let in_port = match mask.in_port {
        0 => None,
        u32::MAX => Some(format!("in_port({})", port_name(key.in_port, names))),
        bits => Some(format!("in_port({:#x}/{bits:#x})", key.in_port & bits)),
    };
    let mut parts = vec![p.tunnel(), in_port, p.group("eth", &[Layer::Ethernet])];
    let upper = p.network();
    let tags = [(key.vlan_tci.get(), mask.vlan_tci.get()), (key.vlan_tci2.get(), mask.vlan_tci2.get())];
    let mut depth = 0;
    let mut tagged = String::new();
    for (key, mask) in tags {
        if mask == 0 {
            continue;
        }
        let vlan = Printer::vlan(key & mask, mask);
        if key & mask & VLAN_PRESENT != 0 {
            let _ = write!(tagged, "{vlan},encap(");
            depth += 1;
        } else if depth > 0 {
            let _ = write!(tagged, "{vlan},");
        } else {
            // No tag, and that mattered: nothing is inside of it.
            parts.push(Some(vlan));
        }
    }
    if depth == 0 {
        parts.extend(upper);
        return join(parts);
    }
    let inner = join(upper);
    let _ = write!(tagged, "{inner}{}", ")".repeat(depth));
    parts.push(Some(tagged));
    join(parts)
}
