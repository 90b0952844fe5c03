//! Stage 4 for programs of several ops: sends act on copies, edits on the packet for what comes behind them.

use crate::Path;
use crate::adjacency::Reach;
use crate::key::PacketInfo;
use crate::programs::Compiled;
use flow::drop::DropReason;
use flow::hash::flow_hash;
use flow::program::{AdjacencyId, Op, PortId, ProgramId, Select};
use rte::Mbuf;
use wire::key::FlowKey;
use wire::proto::{IP_UDP, UDP_LEN, VLAN_LEN};
use wire::rewrite::{self, Headers};
use wire::vxlan::VXLAN_LEN;

/// What ops know of the packet that they work on: its key as far as tunnel headers are made of it, and where
/// its headers are by now.
#[derive(Clone, Copy)]
struct Packet {
    key: FlowKey,
    info: PacketInfo,
}

impl Packet {
    fn headers(&self) -> Headers {
        Headers { l3: self.info.l3, l4: self.info.l4, proto: self.key.nw_proto }
    }

    /// Headers behind Ethernet move by a tag.
    fn shift(&mut self, by: i16) {
        let at = |offset: u16| if offset == 0 { 0 } else { offset.saturating_add_signed(by) };
        (self.info.l3, self.info.l4) = (at(self.info.l3), at(self.info.l4));
    }
}

impl Path {
    /// Runs a program of several ops. The packet has lost its outer headers already.
    #[inline(never)]
    pub(super) fn run_ops(&mut self, id: ProgramId, mbuf: Mbuf, key: &FlowKey, info: &PacketInfo) {
        // Out of its place while it runs, because running one needs all of `self`; nothing looks there meanwhile.
        let Some(program) = self.programs.take(id.0) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        if let Compiled::Ops(program) = &program {
            let packet = Packet { key: *key, info: PacketInfo { strip: 0, ..*info } };
            self.ops(&program.ops, program.drop, mbuf, packet);
        }
        self.programs.put_back(id.0, program);
    }

    /// Sends an encapsulated packet through an underlay bridge that does more with it than to output it.
    #[inline(never)]
    pub(super) fn underlay_ops(&mut self, id: AdjacencyId, mbuf: Mbuf, key: &FlowKey) {
        let reach = self.adjacencies.get_mut(id).map(|a| &mut a.reach);
        let Some(Reach::Ready { template, egress, .. }) = reach else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        // The outer headers, as ops that change them find them; what chooses a bucket is still the inner flow.
        let l4 = (template.header_len() - UDP_LEN - VXLAN_LEN) as u16;
        let l3 = (template.header_len() - template.ip_overhead()) as u16;
        let info = PacketInfo { l3, l4, len: mbuf.len(), ..PacketInfo::default() };
        let packet = Packet { key: FlowKey { nw_proto: IP_UDP, ..*key }, info };
        // Out of their place while they run, as programs are. No op among them encapsulates.
        let ops = std::mem::take(egress);
        self.ops(&ops, DropReason::NoFloodPort, mbuf, packet);
        if let Some(adjacency) = self.adjacencies.get_mut(id)
            && let Reach::Ready { egress, .. } = &mut adjacency.reach
        {
            *egress = ops;
        }
    }

    /// Runs ops on a packet; `drop` is what it counts as when there are none.
    fn ops(&mut self, ops: &[Op], drop: DropReason, mut mbuf: Mbuf, mut packet: Packet) {
        let Some((last, before)) = ops.split_last() else { return self.free(&packet.key, drop, mbuf) };
        for op in before {
            match op {
                Op::Output(_) | Op::Encap { .. } | Op::Clone(_) | Op::Select(_) => {
                    // A copy that could not be made counts as made and dropped, so that the sums hold.
                    self.counters.copied.add(1);
                    match mbuf.copy_to(&self.pool) {
                        Some(copy) => self.last_op(op, copy, packet),
                        None => self.counters.count_drop(port_of(&packet), DropReason::NoMbuf, 1),
                    }
                }
                Op::Punt(reason) => self.punt(*reason, &mbuf, &packet.key),
                Op::Meter(id) => {
                    if !self.meters.take(*id, mbuf.len(), rte::cycles()) {
                        self.counters.meters[usize::from(id.0)].dropped(mbuf.len());
                        return self.free(&packet.key, DropReason::Meter, mbuf);
                    }
                    self.counters.meters[usize::from(id.0)].passed(mbuf.len());
                }
                edit => {
                    if !apply(edit, &mut mbuf, &mut packet) {
                        return self.free(&packet.key, DropReason::Headroom, mbuf);
                    }
                }
            }
        }
        self.last_op(last, mbuf, packet);
    }

    /// The op that takes the packet itself.
    fn last_op(&mut self, op: &Op, mbuf: Mbuf, packet: Packet) {
        match op {
            Op::Output(port) => {
                let _ = self.tx.stage(*port, mbuf, &self.counters);
            }
            Op::Encap { adjacency, vni, policy } => {
                self.encap(*adjacency, *vni, *policy, mbuf, &packet.key, &packet.info);
            }
            Op::Punt(reason) => {
                self.punt(*reason, &mbuf, &packet.key);
                self.counters.punted.add(1);
                drop(mbuf);
            }
            Op::Clone(ops) => self.ops(ops, DropReason::Rule, mbuf, packet),
            Op::Select(select) => match bucket(select, &packet.key) {
                Some(ops) => self.ops(ops, DropReason::NoBucket, mbuf, packet),
                None => self.free(&packet.key, DropReason::NoBucket, mbuf),
            },
            Op::Drop(reason) => self.free(&packet.key, *reason, mbuf),
            // A meter with nothing behind it, or a change that nobody sees: translation ends no program with one.
            _ => self.free(&packet.key, DropReason::Rule, mbuf),
        }
    }
}

fn port_of(packet: &Packet) -> PortId {
    PortId(packet.key.in_port as u16)
}

/// The ops of the bucket that the flow's hash falls to.
fn bucket<'s>(select: &'s Select, key: &FlowKey) -> Option<&'s [Op]> {
    // The low bits: the high ones are the source port of tunnel packets.
    let slot = select.slots[flow_hash(key) as usize % Select::SLOTS];
    select.buckets.get(usize::from(slot)).map(|ops| &**ops)
}

/// Changes the packet; false when there is no room for a tag.
fn apply(op: &Op, mbuf: &mut Mbuf, packet: &mut Packet) -> bool {
    let headers = packet.headers();
    match *op {
        Op::PushVlan { tpid, tci } => {
            if mbuf.prepend(VLAN_LEN).is_none() {
                return false;
            }
            packet.shift(VLAN_LEN as i16);
            return rewrite::push_vlan(mbuf.data_mut(), tpid, tci & !CFI);
        }
        Op::PopVlan => {
            if rewrite::pop_vlan(mbuf.data_mut()) {
                // Cannot fail: a tag was there.
                let _ = mbuf.adj(VLAN_LEN);
                packet.shift(-(VLAN_LEN as i16));
            }
        }
        Op::SetVlan(tci) => {
            rewrite::set_vlan_tci(mbuf.data_mut(), tci & !CFI);
        }
        Op::SetMac(side, mac) => {
            rewrite::set_mac(mbuf.data_mut(), side, mac);
        }
        Op::SetIpv4(side, addr) => {
            rewrite::set_ipv4(mbuf.data_mut(), headers, side, addr);
        }
        Op::SetIpv6(side, addr) => {
            rewrite::set_ipv6(mbuf.data_mut(), headers, side, addr);
        }
        // A tunnel header behind this may inherit the new values.
        Op::SetTos(tos) => {
            rewrite::set_tos(mbuf.data_mut(), headers, tos);
            packet.key.nw_tos = tos;
        }
        Op::SetTtl(ttl) => {
            rewrite::set_ttl(mbuf.data_mut(), headers, ttl);
            packet.key.nw_ttl = ttl;
        }
        Op::SetIpv6Label(label) => {
            rewrite::set_ipv6_label(mbuf.data_mut(), headers, label);
        }
        Op::SetPort(side, port) => {
            rewrite::set_port(mbuf.data_mut(), headers, side, port);
        }
        Op::SetIcmpType(value) => {
            rewrite::set_icmp(mbuf.data_mut(), headers, 0, value);
        }
        Op::SetIcmpCode(value) => {
            rewrite::set_icmp(mbuf.data_mut(), headers, 1, value);
        }
        Op::SetArpOp(op) => {
            rewrite::set_arp_op(mbuf.data_mut(), headers, op);
        }
        Op::SetArpMac(side, mac) => {
            rewrite::set_arp_mac(mbuf.data_mut(), headers, side, mac);
        }
        Op::SetArpIp(side, addr) => {
            rewrite::set_arp_ip(mbuf.data_mut(), headers, side, addr);
        }
        Op::SetNdTarget(addr) => {
            rewrite::set_nd_target(mbuf.data_mut(), headers, addr);
        }
        Op::SetNdLink(side, mac) => {
            rewrite::set_nd_link(mbuf.data_mut(), headers, side, mac);
        }
        // These change nothing and are run elsewhere.
        Op::Output(_)
        | Op::Encap { .. }
        | Op::Punt(_)
        | Op::Meter(_)
        | Op::Drop(_)
        | Op::Clone(_)
        | Op::Select(_) => {}
    }
    true
}

/// The bit of a TCI that keys use for "has a tag" and that is never sent.
const CFI: u16 = 0x1000;
