//! Programs as text, in the words of `ovs-dpctl`, with port names.

use super::SlowPath;
use crate::bridge::PortKind;
use crate::tunnel::adjacency::ReachSpec;
use config::Inheritable;
use datapath::adjacency::Egress;
use flow::program::{AdjacencyId, Op, PortId, Program, PuntReason, Side, TunnelMetadata};
use std::fmt::Write;
use wire::proto::{ETHERNET_LEN, IP_UDP};
use wire::tunnel::encap::{EncapAddrs, EncapPatch};
use wire::tunnel::{HeaderText, geneve};

impl SlowPath {
    /// A program for people.
    pub fn describe(&self, program: &Program) -> String {
        if program.is_drop() {
            format!("drop({})", program.drop.name())
        } else {
            self.describe_ops(&program.ops)
        }
    }

    pub(super) fn describe_ops(&self, ops: &[Op]) -> String {
        let ops: Vec<String> = ops.iter().map(|op| self.describe_op(op)).collect();
        ops.join(",")
    }

    pub(super) fn port_name(&self, id: PortId) -> String {
        self.state.port(id).map_or_else(|| id.to_string(), |port| port.name.clone())
    }

    pub(super) fn describe_op(&self, op: &Op) -> String {
        let side = |side: &Side| if *side == Side::Src { "src" } else { "dst" };
        match op {
            Op::Output(port) => self.port_name(*port),
            Op::Encap { adjacency, vni, metadata, options } => {
                self.describe_encap(*adjacency, *vni, *metadata, options)
            }
            Op::PushVlan { tpid, tci } => {
                let tpid = if *tpid == 0x8100 { String::new() } else { format!("tpid={tpid:#06x},") };
                format!("push_vlan({tpid}vid={},pcp={})", tci & 0xfff, tci >> 13)
            }
            Op::PopVlan => "pop_vlan".into(),
            Op::SetVlan(tci) => format!("set(vlan(vid={},pcp={}))", tci & 0xfff, tci >> 13),
            Op::SetMac(of, mac) => format!("set(eth({}={mac}))", side(of)),
            Op::SetIpv4(of, ip) => format!("set(ipv4({}={ip}))", side(of)),
            Op::SetIpv6(of, ip) => format!("set(ipv6({}={ip}))", side(of)),
            Op::SetTos(tos) => format!("set(ip(tos={tos:#x}))"),
            Op::SetTtl(ttl) => format!("set(ip(ttl={ttl}))"),
            Op::SetIpv6Label(label) => format!("set(ipv6(label={label:#x}))"),
            Op::SetPort(of, port) => format!("set(l4({}={port}))", side(of)),
            Op::SetIcmpType(value) => format!("set(icmp(type={value}))"),
            Op::SetIcmpCode(value) => format!("set(icmp(code={value}))"),
            Op::SetArpOp(op) => format!("set(arp(op={op}))"),
            Op::SetArpMac(Side::Src, mac) => format!("set(arp(sha={mac}))"),
            Op::SetArpMac(Side::Dst, mac) => format!("set(arp(tha={mac}))"),
            Op::SetArpIp(Side::Src, ip) => format!("set(arp(sip={ip}))"),
            Op::SetArpIp(Side::Dst, ip) => format!("set(arp(tip={ip}))"),
            Op::SetNdTarget(ip) => format!("set(nd(target={ip}))"),
            Op::SetNdLink(Side::Src, mac) => format!("set(nd(sll={mac}))"),
            Op::SetNdLink(Side::Dst, mac) => format!("set(nd(tll={mac}))"),
            Op::Punt(PuntReason::Local(_)) => "slowpath(local)".into(),
            Op::Punt(PuntReason::Controller { max_len, .. }) => {
                format!("userspace(controller,max_len={max_len})")
            }
            Op::Punt(PuntReason::Solicit { vlan, .. }) => format!("slowpath(solicit,vlan={vlan})"),
            Op::Punt(PuntReason::Snoop { vlan, .. }) => format!("slowpath(snoop,vlan={vlan})"),
            Op::Punt(PuntReason::Membership { vlan, .. }) => format!("slowpath(mcast,vlan={vlan})"),
            Op::Punt(PuntReason::Bfd(port)) => format!("slowpath(bfd,{})", self.port_name(*port)),
            Op::PuntOr(reason, otherwise) => {
                let punt = self.describe_op(&Op::Punt(*reason));
                format!("{punt} or ({})", self.describe_ops(otherwise))
            }
            Op::Punt(PuntReason::CaptureRx(port)) => {
                format!("userspace(capture(rx {}))", self.port_name(*port))
            }
            Op::Punt(PuntReason::CaptureTx(port)) => {
                format!("userspace(capture(tx {}))", self.port_name(*port))
            }
            Op::ClampMss { adjacency, .. } => {
                let remote = self.tunnels.remote(*adjacency);
                let port = remote.map_or_else(String::new, |remote| self.port_name(remote.port));
                format!("clamp_mss({port})")
            }
            Op::Terminate(port) => format!("tnl_pop({})", self.port_name(*port)),
            Op::Drop(reason) => format!("drop({})", reason.name()),
            Op::Meter(id) => format!("meter({})", id.0),
            Op::Clone(ops) => format!("clone({})", self.describe_ops(ops)),
            Op::Truncate { max_len, ops } => format!("trunc({max_len}),{}", self.describe_ops(ops)),
            Op::CheckLength(check) => {
                let [fits, longer] = check.branches.each_ref().map(|ops| self.describe_ops(ops));
                format!("check_pkt_len(size={},gt({longer}),le({fits}))", check.length)
            }
            Op::Select(select) => {
                let mut text = "select(".to_owned();
                for (at, ops) in select.buckets.iter().enumerate() {
                    let slots = select.slots.iter().filter(|slot| usize::from(**slot) == at).count();
                    let comma = if at > 0 { "," } else { "" };
                    // A string takes all that is written to it.
                    let _ =
                        write!(text, "{comma}{slots}/{}: {{{}}}", select.slots.len(), self.describe_ops(ops));
                }
                text.push(')');
                text
            }
        }
    }

    /// The tunnel headers that a program puts in front of packets, or why it cannot.
    pub(super) fn tunnel_headers(&self, program: &Program) -> Vec<String> {
        let mut lines = Vec::new();
        self.add_headers(&program.ops, &mut lines);
        lines
    }

    fn add_headers(&self, ops: &[Op], lines: &mut Vec<String>) {
        for op in ops {
            match op {
                Op::Encap { adjacency, vni, metadata, .. } => {
                    lines.push(self.header(*adjacency, &encap_patch(*vni, *metadata), false));
                }
                Op::Clone(ops) | Op::Truncate { ops, .. } | Op::PuntOr(_, ops) => {
                    self.add_headers(ops, lines);
                }
                op => op.branches().iter().for_each(|ops| self.add_headers(ops, lines)),
            }
        }
    }

    /// The tunnel header that an adjacency's packets get; with `exact`, that of one packet, whose own part `patch` is all.
    pub(super) fn header(&self, adjacency: AdjacencyId, patch: &EncapPatch, exact: bool) -> String {
        let Some(remote) = self.tunnels.remote(adjacency) else { return "no such tunnel".into() };
        let Some(PortKind::Tunnel(tunnel_port)) = self.state.port(remote.port).map(|p| &p.kind) else {
            return "no such tunnel".into();
        };
        let to = format!("{} to {}", self.port_name(remote.port), remote.ip);
        let (spec, egress, mtu) = match &remote.installed {
            Some(ReachSpec::Ready(spec, egress, mtu)) => (spec, egress, *mtu),
            Some(ReachSpec::Resolving(_, hop)) => {
                return format!("{to}: packets wait for the MAC address of the next hop, {hop}");
            }
            Some(ReachSpec::Unreachable(reason)) => return format!("{to}: drop({})", reason.name()),
            None => return format!("{to}: not known yet"),
        };
        let inherit = |of: Inheritable| match of {
            Inheritable::Value(value) => value.to_string(),
            Inheritable::Inherit => "inherit".into(),
        };
        let (tos, ttl) = if exact {
            (format!("{:#x}", patch.tos), patch.ttl.to_string())
        } else {
            (inherit(tunnel_port.options.tos), inherit(tunnel_port.options.ttl))
        };
        let ip = match spec.addrs {
            EncapAddrs::V4(src, dst) => format!("ipv4({src}->{dst},tos={tos},ttl={ttl},df={})", spec.df),
            EncapAddrs::V6(src, dst) => format!("ipv6({src}->{dst},tclass={tos},hlimit={ttl})"),
        };
        let udp = if spec.format.protocol == IP_UDP {
            let (port, csum) = (spec.udp_dst, spec.options.csum);
            let src =
                if exact { patch.src_port.to_string() } else { "49152-65535 by the flow's hash".to_owned() };
            format!("udp(src={src},dst={port},csum={csum}),")
        } else {
            String::new()
        };
        let tunnel = HeaderText(spec.format, spec.options, patch);
        let fits = mtu.inner(spec).filter(|_| !exact).and_then(|len| len.checked_sub(ETHERNET_LEN));
        let inner = fits.map_or_else(String::new, |mtu| {
            let longer = if spec.df {
                "are dropped (mtu_exceeded), and who sent them is told by ICMP"
            } else {
                "leave in outer fragments, but for IPv6, and IPv4 with DF, whose sender is told by ICMP (mtu_exceeded)"
            };
            format!("; inner packets of up to {mtu} bytes fit, longer ones {longer}")
        });
        format!(
            "{to}: eth({}->{}),{ip},{udp}{tunnel}, out by {}{inner}",
            spec.eth_src,
            spec.eth_dst,
            match egress {
                Egress::Ops(ops) => self.describe_ops(&without_copies(ops)),
                Egress::Lookup(local) => format!("a lookup as from {}", self.port_name(*local)),
            }
        )
    }

    fn describe_encap(
        &self,
        adjacency: AdjacencyId,
        vni: u32,
        metadata: TunnelMetadata,
        options: &[u8],
    ) -> String {
        let Some(remote) = self.tunnels.remote(adjacency) else { return format!("encap(vni={vni})") };
        let port = self.port_name(remote.port);
        let Some(PortKind::Tunnel(tunnel)) = self.state.port(remote.port).map(|p| &p.kind) else {
            return format!("encap({port}: vni={vni},remote={})", remote.ip);
        };
        let to = match tunnel.options.transport.port {
            0 => String::new(),
            port => format!(",dst_port={port}"),
        };
        let patch = encap_patch(vni, metadata);
        let header = HeaderText(tunnel.options.format, tunnel.options.header, &patch);
        let options = describe_options(options);
        format!("encap({port}: {header}{options},remote={}{to})", remote.ip)
    }
}

/// Geneve options in the words of `ovs-dpctl`.
fn describe_options(options: &[u8]) -> String {
    if options.is_empty() {
        return String::new();
    }
    let option = |o: geneve::GeneveOption<'_>| {
        let value = o.data.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let value = if value.is_empty() { value } else { format!(",0x{value}") };
        format!("{{class={:#x},type={:#x},len={}{value}}}", o.class, o.kind, o.data.len())
    };
    let all: String = geneve::Options(options).map(option).collect();
    format!(",options({all})")
}

/// What a tunnel header has of its own that a program says.
pub(super) fn encap_patch(vni: u32, metadata: TunnelMetadata) -> EncapPatch {
    let TunnelMetadata { gbp_id, gbp_flags, options_len, critical, oam } = metadata;
    EncapPatch { vni, gbp_id, gbp_flags, options_len, critical, oam, ..EncapPatch::default() }
}

/// The ops without the copies for who looks.
fn without_copies(ops: &[Op]) -> Vec<Op> {
    let is_copy = |op: &&Op| matches!(op, Op::Punt(PuntReason::CaptureRx(_) | PuntReason::CaptureTx(_)));
    ops.iter().filter(|op| !is_copy(op)).cloned().collect()
}
