//! Programs of several ops, packet by packet: sends act on copies, edits on the packet for what comes behind them.

use super::header::Next;
use crate::adjacency::{Egress, Reach};
use crate::batch::{BatchMeta, PacketInfo};
use crate::parse::inner;
use crate::pipeline::{MAX_DEPTH, Pipeline, Reentry};
use crate::programs::{Compiled, Encap};
use crate::{gso, offload};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId, Program, ProgramId, TunnelMetadata};
use rte::Mbuf;
use rte::burst::Drain;
use std::ops::Range;
use wire::ecn::set_ecn;
use wire::key::FlowKey;
use wire::proto::VLAN_LEN;
use wire::rewrite::{self, Headers};
use wire::tunnel::encap::INNER_MAX_LEN;

/// What ops know of the packet that they work on: its key as far as tunnel headers are made of it, and where
/// its headers are by now.
#[derive(Clone, Copy)]
struct Packet {
    key: FlowKey,
    info: PacketInfo,
}

impl Packet {
    fn headers(&self) -> Headers {
        Headers { l3: self.info.l3, l4: self.info.l4, proto: self.key.nw_proto, partial: false }
    }

    /// Headers behind Ethernet move by a tag.
    fn shift(&mut self, by: i16) {
        let at = |offset: u16| if offset == 0 { 0 } else { offset.saturating_add_signed(by) };
        (self.info.l3, self.info.l4) = (at(self.info.l3), at(self.info.l4));
    }
}

impl Pipeline {
    /// Packets whose program is of several ops.
    #[inline(never)]
    pub(super) fn ops_run(
        &mut self,
        id: ProgramId,
        mut mbufs: Drain<'_>,
        range: Range<usize>,
        meta: &mut BatchMeta,
    ) -> usize {
        // Out of its place while it runs, because running one needs all of `self`; nothing looks there meanwhile.
        let program = self.programs.take(id.0);
        self.run_each(&mut mbufs, range.clone(), meta, |pipeline, mbuf, key, info| match &program {
            Some(Compiled::Ops(program)) => pipeline.start_ops(program, mbuf, key, info),
            _ => pipeline.free(key, DropReason::Internal, mbuf),
        });
        if let Some(program) = program {
            self.programs.put_back(id.0, program);
        }
        self.end_run(&mbufs, range, meta)
    }

    /// Gives each packet of a run, without its outer headers, and its whole key to `act`.
    pub(super) fn run_each(
        &mut self,
        mbufs: &mut Drain<'_>,
        range: Range<usize>,
        meta: &mut BatchMeta,
        mut act: impl FnMut(&mut Pipeline, Mbuf, &FlowKey, &PacketInfo),
    ) {
        for (at, mut mbuf) in range.zip(mbufs) {
            let in_port = meta.in_port(at);
            let trailing = meta.outer(at).trailing;
            let made = inner::key_of(&mbuf, at, meta, &self.counters);
            match made.and_then(|(key, info)| strip_one(&mut mbuf, trailing, key, info).map(|()| (key, info)))
            {
                Ok((key, info)) => act(self, mbuf, key, info),
                Err(reason) => {
                    self.counters.count_drop(in_port, reason, 1);
                    drop(mbuf);
                }
            }
        }
    }

    /// Runs the program of one packet that has waited, or that the slow path made.
    pub(crate) fn run(&mut self, program: ProgramId, mut mbuf: Mbuf, key: &FlowKey, info: &PacketInfo) {
        let Some(compiled) = self.programs.get(program.0) else {
            return self.free(key, DropReason::Internal, mbuf);
        };
        if let Compiled::Drop(reason) = *compiled {
            return self.free(key, reason, mbuf);
        }
        if let Err(reason) = strip_one(&mut mbuf, 0, key, info) {
            return self.free(key, reason, mbuf);
        }
        match *compiled {
            Compiled::Output(port) => {
                let _ = self.tx.stage(port, mbuf, PortId(key.in_port as u16), &self.counters);
            }
            Compiled::Encap(Encap { adjacency, vni }) => {
                self.encap((adjacency, vni, TunnelMetadata::default()), mbuf, key, info);
            }
            Compiled::Terminate(port) => self.reenter(Reentry::Terminate(port), mbuf, key),
            Compiled::Drop(_) => {}
            Compiled::Ops(_) => {
                let compiled = self.programs.take(program.0);
                if let Some(Compiled::Ops(ops)) = &compiled {
                    self.start_ops(ops, mbuf, key, info);
                }
                if let Some(compiled) = compiled {
                    self.programs.put_back(program.0, compiled);
                }
            }
        }
    }

    /// Runs a program of several ops. The packet has lost its outer headers already.
    fn start_ops(&mut self, program: &Program, mbuf: Mbuf, key: &FlowKey, info: &PacketInfo) {
        let packet = Packet { key: *key, info: PacketInfo { strip: 0, set_ecn: false, ..*info } };
        self.ops(&program.ops, program.drop, mbuf, packet);
    }

    /// Encapsulates one packet and sends it through the underlay bridge; what cannot go yet is held.
    pub(crate) fn encap(
        &mut self,
        (id, vni, metadata): (AdjacencyId, u32, TunnelMetadata),
        mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        let is_divided = self.exceeds(id, &mbuf);
        if is_divided && !self.may_divide((id, metadata.options_len), &mbuf, (key.dl_type.get(), info.l3)) {
            let in_port = PortId(key.in_port as u16);
            return self.too_big((id, vni, metadata.options_len.into()), mbuf, in_port);
        }
        if offload::is_requested(&mbuf) && (is_divided || !self.can_carry(id, &mbuf)) {
            return self.encap_completed((id, vni, metadata), mbuf, key, info);
        }
        let inner_len = u64::from(mbuf.len()) - u64::from(metadata.options_len);
        let Some((mbuf, next)) = self.push_header(id, (vni, metadata), mbuf, key, info) else { return };
        let tunnel = self.adjacencies.get(id).map_or(PortId(0), |adjacency| adjacency.tunnel);
        let sent = if is_divided {
            let Some((l3, mtu)) = self.outer_mtu(id) else {
                return self.free(key, DropReason::Internal, mbuf);
            };
            self.divide((mbuf, l3, mtu), key, |pipeline, mbuf| pipeline.go_on(id, next, mbuf, key))
        } else {
            self.go_on(id, next, mbuf, key)
        };
        self.counters.port(tunnel).encapsulated(inner_len, sent);
    }

    /// Sends a packet that has its outer headers on; false when it was freed and counted instead.
    fn go_on(&mut self, id: AdjacencyId, next: Next, mbuf: Mbuf, key: &FlowKey) -> bool {
        match next {
            Next::Output(port) => {
                return self.tx.stage(port, mbuf, PortId(key.in_port as u16), &self.counters);
            }
            Next::Ops => self.underlay_ops(id, mbuf, key),
            Next::Lookup(port) => self.reenter(Reentry::FromLocal(port), mbuf, key),
        }
        true
    }

    /// Where the IP header of an adjacency's packets begins, and how many bytes from there on fit the path to its remote.
    fn outer_mtu(&self, id: AdjacencyId) -> Option<(usize, u16)> {
        let adjacency = self.adjacencies.get(id)?;
        let Reach::Ready { template, .. } = &adjacency.reach else { return None };
        let mtu = (adjacency.max_inner as usize).checked_add(template.header_len() - template.l3())?;
        Some((template.l3(), u16::try_from(mtu).ok()?))
    }

    /// Whether the offloads that the packet requests can be requested behind the adjacency's headers, too.
    fn can_carry(&self, id: AdjacencyId, mbuf: &Mbuf) -> bool {
        match self.adjacencies.get(id).map(|adjacency| &adjacency.reach) {
            Some(Reach::Ready { template, .. }) => {
                mbuf.len() <= u32::from(INNER_MAX_LEN) && offload::behind(mbuf, template).is_some()
            }
            // It waits, or is dropped, as it is.
            _ => true,
        }
    }

    /// Encapsulates a packet after the offloads that it requests have been done in software.
    #[inline(never)]
    fn encap_completed(
        &mut self,
        encap: (AdjacencyId, u32, TunnelMetadata),
        mut mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        if !gso::is_large(&mbuf) {
            return if offload::complete(&mut mbuf) {
                self.encap(encap, mbuf, key, info);
            } else {
                self.free(key, DropReason::Offload, mbuf);
            };
        }
        let pool = self.pool.clone();
        let made = gso::segment(&mbuf, &pool, |segment| self.encap(encap, segment, key, info));
        made.count((PortId(key.in_port as u16), &mbuf), &self.counters);
    }

    /// Sends an encapsulated packet through an underlay bridge that does more with it than to output it.
    #[inline(never)]
    fn underlay_ops(&mut self, id: AdjacencyId, mbuf: Mbuf, key: &FlowKey) {
        if self.depth >= MAX_DEPTH {
            return self.free(key, DropReason::RecursionLimit, mbuf);
        }
        let reach = self.adjacencies.get_mut(id).map(|a| &mut a.reach);
        let Some(Reach::Ready { template, egress: Egress::Ops(ops), .. }) = reach else {
            return self.free(key, DropReason::Internal, mbuf);
        };
        // The outer headers, as ops that change them find them; what chooses a bucket is still the inner flow.
        let l4 = template.l4() as u16;
        let l3 = (template.header_len() - template.ip_overhead()) as u16;
        let info = PacketInfo { l3, l4, len: mbuf.len(), ..PacketInfo::default() };
        let packet = Packet { key: FlowKey { nw_proto: template.protocol(), ..*key }, info };
        // Out of their place while they run, as programs are: an underlay that leads back to its own tunnel finds none,
        // and the packet ends there.
        let ops = std::mem::take(ops);
        self.depth += 1;
        self.ops(&ops, DropReason::NoFloodPort, mbuf, packet);
        self.depth -= 1;
        if let Some(adjacency) = self.adjacencies.get_mut(id)
            && let Reach::Ready { egress: Egress::Ops(place), .. } = &mut adjacency.reach
        {
            *place = ops;
        }
    }

    /// Runs ops on a packet; `drop` is what it counts as when there are none.
    fn ops(&mut self, ops: &[Op], drop: DropReason, mut mbuf: Mbuf, mut packet: Packet) {
        let Some((last, before)) = ops.split_last() else { return self.free(&packet.key, drop, mbuf) };
        for op in before {
            match op {
                Op::Output(_)
                | Op::Encap { .. }
                | Op::Terminate(_)
                | Op::Clone(_)
                | Op::Truncate { .. }
                | Op::Select(_)
                | Op::CheckLength(_)
                | Op::PuntOr(..) => {
                    // A copy that could not be made counts as made and dropped, so that the sums hold.
                    self.counters.copied.add(1);
                    match mbuf.copy_to(&self.pool) {
                        Some(copy) => self.last_op(op, copy, packet),
                        None => self.counters.drop_packet(port_of(&packet), DropReason::NoMbuf, &mbuf),
                    }
                }
                Op::Punt(reason) => self.copy_up(*reason, &mbuf, &packet.key),
                Op::ClampMss { adjacency, options_len } => {
                    self.clamp_mss((*adjacency, *options_len), &mut mbuf, &packet);
                }
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

    /// Lowers what a SYN offers to what fits the path to a remote, if that is known.
    fn clamp_mss(&self, (id, options_len): (AdjacencyId, u8), mbuf: &mut Mbuf, packet: &Packet) {
        let longest = self.adjacencies.get(id).map_or(u32::MAX, |adjacency| adjacency.max_inner);
        let headers = Headers { partial: offload::is_partial(mbuf), ..packet.headers() };
        if let Ok(mtu) = u16::try_from(longest.saturating_sub(u32::from(headers.l3) + u32::from(options_len)))
        {
            rewrite::clamp_mss(mbuf.data_mut(), headers, mtu);
        }
    }

    /// [`Self::last_op`] after the offloads that the packet requests have been done in software.
    #[cold]
    #[inline(never)]
    #[allow(clippy::large_types_passed_by_value, reason = "it is moved on where it waits")]
    fn completed(&mut self, op: &Op, mut mbuf: Mbuf, packet: Packet) {
        if !gso::is_large(&mbuf) {
            return if offload::complete(&mut mbuf) {
                self.last_op(op, mbuf, packet);
            } else {
                self.free(&packet.key, DropReason::Offload, mbuf);
            };
        }
        let pool = self.pool.clone();
        let made = gso::segment(&mbuf, &pool, |segment| self.last_op(op, segment, packet));
        made.count((port_of(&packet), &mbuf), &self.counters);
    }

    /// The op that takes the packet itself.
    #[allow(clippy::large_types_passed_by_value, reason = "it ends here, and is moved on where it waits")]
    fn last_op(&mut self, op: &Op, mbuf: Mbuf, packet: Packet) {
        match op {
            Op::Output(port) => {
                let _ = self.tx.stage(*port, mbuf, port_of(&packet), &self.counters);
            }
            Op::Encap { adjacency, vni, metadata, options } => {
                let mut mbuf = mbuf;
                if !options.is_empty()
                    && offload::is_requested(&mbuf)
                    && !offload::can_shift(&mbuf, options.len())
                {
                    return self.completed(op, mbuf, packet);
                }
                if !options.is_empty() {
                    let Some(room) = mbuf.prepend_or_move(options.len()) else {
                        return self.free(&packet.key, DropReason::Headroom, mbuf);
                    };
                    room.copy_from_slice(options);
                    offload::shift(&mut mbuf, options.len() as i16);
                }
                self.encap((*adjacency, *vni, *metadata), mbuf, &packet.key, &packet.info);
            }
            Op::Punt(reason) => {
                self.copy_up(*reason, &mbuf, &packet.key);
                self.counters.punted.add(1);
                drop(mbuf);
            }
            Op::PuntOr(reason, otherwise) => {
                if self.punt(*reason, &mbuf, &packet.key) {
                    self.counters.punted.add(1);
                } else {
                    self.ops(otherwise, DropReason::Rule, mbuf, packet);
                }
            }
            Op::Terminate(port) => self.reenter(Reentry::Terminate(*port), mbuf, &packet.key),
            Op::Clone(ops) => self.ops(ops, DropReason::Rule, mbuf, packet),
            Op::Truncate { max_len, ops } => {
                // What is cut off can be neither summed nor divided later.
                if offload::is_requested(&mbuf) {
                    return self.completed(op, mbuf, packet);
                }
                let Some(front) = mbuf.copy_front_to(&self.pool, *max_len) else {
                    return self.free(&packet.key, DropReason::NoMbuf, mbuf);
                };
                drop(mbuf);
                let info = PacketInfo { len: front.len(), ..packet.info };
                self.ops(ops, DropReason::Rule, front, Packet { info, ..packet });
            }
            Op::Select(select) => {
                let hash = self.hasher.flow_hash(&packet.key);
                select.count(hash, mbuf.len().into());
                match select.bucket(hash) {
                    Some(ops) => self.ops(ops, DropReason::NoBucket, mbuf, packet),
                    None => self.free(&packet.key, DropReason::NoBucket, mbuf),
                }
            }
            Op::CheckLength(check) => {
                let len = if gso::is_large(&mbuf) { gso::segment_len(&mbuf) } else { mbuf.len() };
                self.ops(check.ops(len), DropReason::Rule, mbuf, packet);
            }
            Op::Drop(reason) => self.free(&packet.key, *reason, mbuf),
            // A meter with nothing behind it, or a change that nobody sees: translation ends no program with one.
            _ => self.free(&packet.key, DropReason::Rule, mbuf),
        }
    }
}

fn port_of(packet: &Packet) -> PortId {
    PortId(packet.key.in_port as u16)
}

/// Changes the packet; false when there is no room for a tag.
fn apply(op: &Op, mbuf: &mut Mbuf, packet: &mut Packet) -> bool {
    let headers = Headers { partial: offload::is_partial(mbuf), ..packet.headers() };
    match *op {
        Op::PushVlan { tpid, tci } => {
            if mbuf.prepend_or_move(VLAN_LEN).is_none() {
                return false;
            }
            packet.shift(VLAN_LEN as i16);
            offload::shift(mbuf, VLAN_LEN as i16);
            return rewrite::push_vlan(mbuf.data_mut(), tpid, tci & !CFI);
        }
        Op::PopVlan => {
            if rewrite::pop_vlan(mbuf.data_mut()) {
                // Cannot fail: a tag was there.
                let _ = mbuf.adj(VLAN_LEN);
                packet.shift(-(VLAN_LEN as i16));
                offload::shift(mbuf, -(VLAN_LEN as i16));
            }
            return true;
        }
        // A tunnel header behind this may inherit the new values.
        Op::SetTos(tos) => packet.key.nw_tos = tos,
        Op::SetTtl(ttl) => packet.key.nw_ttl = ttl,
        _ => {}
    }
    set_field(op, mbuf.data_mut(), headers);
    true
}

/// Sets the field that an op sets, in a frame whose headers are where `headers` says. Other ops change nothing.
pub fn set_field(op: &Op, frame: &mut [u8], headers: Headers) {
    match *op {
        Op::SetVlan(tci) => rewrite::set_vlan_tci(frame, tci & !CFI),
        Op::SetMac(side, mac) => rewrite::set_mac(frame, side, mac),
        Op::SetIpv4(side, addr) => rewrite::set_ipv4(frame, headers, side, addr),
        Op::SetIpv6(side, addr) => rewrite::set_ipv6(frame, headers, side, addr),
        Op::SetTos(tos) => rewrite::set_tos(frame, headers, tos),
        Op::SetTtl(ttl) => rewrite::set_ttl(frame, headers, ttl),
        Op::SetIpv6Label(label) => rewrite::set_ipv6_label(frame, headers, label),
        Op::SetPort(side, port) => rewrite::set_port(frame, headers, side, port),
        Op::SetIcmpType(value) => rewrite::set_icmp(frame, headers, 0, value),
        Op::SetIcmpCode(value) => rewrite::set_icmp(frame, headers, 1, value),
        Op::SetArpOp(op) => rewrite::set_arp_op(frame, headers, op),
        Op::SetArpMac(side, mac) => rewrite::set_arp_mac(frame, headers, side, mac),
        Op::SetArpIp(side, addr) => rewrite::set_arp_ip(frame, headers, side, addr),
        Op::SetNdTarget(addr) => rewrite::set_nd_target(frame, headers, addr),
        Op::SetNdLink(side, mac) => rewrite::set_nd_link(frame, headers, side, mac),
        Op::PushVlan { .. }
        | Op::PopVlan
        | Op::Output(_)
        | Op::Encap { .. }
        | Op::Punt(_)
        | Op::PuntOr(..)
        | Op::ClampMss { .. }
        | Op::Meter(_)
        | Op::Terminate(_)
        | Op::Drop(_)
        | Op::Clone(_)
        | Op::Truncate { .. }
        | Op::Select(_)
        | Op::CheckLength(_) => false,
    };
}

/// The bit of a TCI that keys use for "has a tag" and that is never sent.
const CFI: u16 = 0x1000;

/// Takes the outer headers off one packet, and what was behind the inner frame; carries the ECN field over (RFC 6040).
fn strip_one(mbuf: &mut Mbuf, trailing: u16, key: &FlowKey, info: &PacketInfo) -> Result<(), DropReason> {
    if info.strip == 0 {
        return Ok(());
    }
    let trimmed = trailing == 0 || mbuf.trim(trailing.into());
    if !(trimmed && mbuf.adj(info.strip.into())) {
        return Err(DropReason::TunnelInnerTruncated);
    }
    offload::decap(mbuf, info.strip);
    if info.set_ecn {
        set_ecn(mbuf.data_mut(), info.l3.into(), key.nw_tos);
    }
    Ok(())
}
