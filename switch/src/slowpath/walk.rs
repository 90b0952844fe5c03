//! What the workers do with a packet whose bytes are known, for its trace: the bucket that its flow falls to, the outer
//! headers that it gets, where it leaves, and where it is too long.

use super::SlowPath;
use super::describe::encap_patch;
use crate::bridge::PortKind;
use crate::tunnel::adjacency::ReachSpec;
use datapath::adjacency::{Adjacency, Egress, Reach};
use datapath::set_field;
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId, PuntReason, Select, TunnelMetadata};
use wire::field::{ipv4, ipv6};
use wire::fragment;
use wire::key::FlowKey;
use wire::parse::extract;
use wire::proto::{ETHERNET_LEN, IP_FRAGMENT, IPV4_LEN, IPV4_MF, IPV6_LEN, VLAN_LEN};
use wire::rewrite::{self, Headers};
use wire::tunnel::encap::{EncapPatch, EncapSpec, EncapTemplate};

/// Bytes of the fragment header of IPv6.
const FRAGMENT_LEN: usize = 8;

/// Tunnels inside of tunnels that a trace follows: as many as a worker does.
pub(super) const MAX_DEPTH: u8 = 8;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In words.
    pub steps: Vec<String>,
    /// Outer headers that it gets, or why it does not.
    pub headers: Vec<String>,
    /// Where it goes, and with how many bytes.
    pub sent: Vec<String>,
    /// LOCAL ports that it reaches as a tunnel packet, and its bytes there.
    pub terminated: Vec<(PortId, Vec<u8>)>,
    /// LOCAL ports from which it is looked up as a tunnel packet, and the tunnel packet.
    pub looked_up: Vec<(PortId, Vec<u8>)>,
    /// Places that take it.
    taken: usize,
    /// Why a place did not.
    refused: Option<DropReason>,
    /// Tunnels that it is in.
    depth: u8,
}

impl Found {
    /// Why it goes nowhere, if it is only known now.
    pub fn dropped(&self) -> Option<DropReason> {
        self.refused.filter(|_| self.taken == 0)
    }

    fn take(&mut self, place: &str, frame: &[u8]) {
        self.taken += 1;
        self.sent.push(format!("{place}, {} bytes", frame.len()));
    }
}

impl SlowPath {
    /// Follows a packet with this key through ops as the workers run them.
    pub(super) fn walk(&self, ops: &[Op], packet: &FlowKey, mut frame: Vec<u8>, found: &mut Found) {
        for op in ops {
            match op {
                Op::Output(port) => self.send_step(*port, &frame, found),
                Op::Encap { adjacency, vni, metadata, options } => {
                    let inner = [options, frame.as_slice()].concat();
                    self.encap_step(*adjacency, (*vni, *metadata), packet, inner, found);
                }
                Op::Terminate(local) => {
                    found.taken += 1;
                    found.terminated.push((*local, frame.clone()));
                }
                Op::Clone(ops) => self.walk(ops, packet, frame.clone(), found),
                Op::Truncate { max_len, ops } => {
                    let front = frame.iter().copied().take(*max_len as usize).collect();
                    self.walk(ops, packet, front, found);
                }
                Op::Select(select) => self.select_step(select, packet, &frame, found),
                Op::CheckLength(check) => {
                    self.walk(check.ops(frame.len() as u32), packet, frame.clone(), found);
                }
                // Copies for who looks are not where the packet goes.
                Op::Punt(PuntReason::CaptureRx(_) | PuntReason::CaptureTx(_)) => {}
                Op::Punt(_) | Op::PuntOr(..) => found.take(&self.describe_op(op), &frame),
                Op::Drop(reason) => found.refused = Some(*reason),
                Op::PushVlan { tpid, tci } => {
                    frame.splice(..0, [0; VLAN_LEN]);
                    rewrite::push_vlan(&mut frame, *tpid, *tci & !0x1000);
                }
                Op::PopVlan => {
                    if rewrite::pop_vlan(&mut frame) {
                        frame.drain(..VLAN_LEN);
                    }
                }
                field => {
                    let mut key = *packet;
                    if let Ok(parsed) = extract(&frame, &mut key) {
                        set_field(field, &mut frame, Headers::new(parsed, &key));
                    }
                }
            }
        }
    }

    /// The bucket that the flow's hash falls to.
    fn select_step(&self, select: &Select, packet: &FlowKey, frame: &[u8], found: &mut Found) {
        let hash = self.hasher.flow_hash(packet);
        let Some(ops) = select.bucket(hash).filter(|ops| !ops.is_empty()) else {
            found.refused = Some(DropReason::NoBucket);
            return;
        };
        let (number, of) = (select.bucket_number(hash) + 1, select.buckets.len());
        found.steps.push(format!("bucket {number} of {of}, by the flow's hash: {}", self.describe_ops(ops)));
        self.walk(ops, packet, frame.to_vec(), found);
    }

    /// Whether a port's MTU lets a frame out.
    fn send_step(&self, id: PortId, frame: &[u8], found: &mut Found) {
        let name = self.port_name(id);
        let Some(mtu) = self.state.port(id).and_then(|port| port.mtu) else {
            return found.take(&name, frame);
        };
        let tag = if matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8])) { VLAN_LEN } else { 0 };
        let len = frame.len().saturating_sub(ETHERNET_LEN + tag);
        if len > usize::from(mtu) {
            found.refused = Some(DropReason::MtuExceeded);
            found.steps.push(format!(
                "{name}: {len} bytes behind the Ethernet header, MTU {mtu}: dropped (mtu_exceeded)"
            ));
        } else {
            found.take(&name, frame);
        }
    }

    /// Puts outer headers in front of a frame, which begins with the options of the tunnel header, and follows the tunnel
    /// packet on.
    fn encap_step(
        &self,
        id: AdjacencyId,
        (vni, metadata): (u32, TunnelMetadata),
        packet: &FlowKey,
        inner: Vec<u8>,
        found: &mut Found,
    ) {
        if found.depth >= MAX_DEPTH {
            found.refused = Some(DropReason::RecursionLimit);
            return;
        }
        let Some(remote) = self.tunnels.remote(id) else {
            found.refused = Some(DropReason::PortGone);
            return;
        };
        let (spec, egress, mtu) = match &remote.installed {
            Some(ReachSpec::Ready(spec, egress, mtu)) => (spec, egress, mtu),
            other => {
                match other {
                    Some(ReachSpec::Unreachable(reason)) => found.refused = Some(*reason),
                    _ => found.taken += 1,
                }
                found.headers.push(self.header(id, &encap_patch(vni, metadata), false));
                return;
            }
        };
        let too_long = mtu.inner(spec).filter(|most| inner.len() > *most);
        let divides = !spec.df && may_be_divided(&inner, metadata.options_len.into());
        if let Some(most) = too_long.filter(|_| !divides) {
            found.refused = Some(DropReason::MtuExceeded);
            found.steps.push(format!(
                "{} to {}: a frame of {} bytes, {most} fit the path: dropped (mtu_exceeded)",
                self.port_name(remote.port),
                remote.ip,
                inner.len()
            ));
            return;
        }
        let Some((mut outer, patch)) = self.tunnel_packet(remote.port, spec, (vni, metadata), packet, inner)
        else {
            found.refused = Some(DropReason::Internal);
            return;
        };
        found.headers.push(self.header(id, &patch, true));
        if let Some(most) = too_long {
            let template = EncapTemplate::new(spec);
            let mtu = most + template.header_len() - template.l3();
            let count = keep_first_fragment(&mut outer, template.l3(), mtu);
            found.steps.push(format!(
                "{} to {}: {count} fragments of at most {mtu} bytes (df_default=false); the first one:",
                self.port_name(remote.port),
                remote.ip
            ));
        }
        match egress {
            Egress::Lookup(local) => {
                found.taken += 1;
                found.looked_up.push((*local, outer));
            }
            Egress::Ops(ops) => {
                found.depth += 1;
                let packet = FlowKey { nw_proto: spec.format.protocol, ..*packet };
                self.walk(ops, &packet, outer, found);
                found.depth -= 1;
            }
        }
    }

    /// The tunnel packet that a frame becomes, with its options in front, and what its header has of its own. The flow's hash
    /// is that of the packet as it came in; TOS and TTL are those of the frame as it is now.
    fn tunnel_packet(
        &self,
        port: PortId,
        spec: &EncapSpec,
        (vni, metadata): (u32, TunnelMetadata),
        packet: &FlowKey,
        inner: Vec<u8>,
    ) -> Option<(Vec<u8>, EncapPatch)> {
        let PortKind::Tunnel(tunnel) = &self.state.port(port)?.kind else { return None };
        let mut key = *packet;
        let _ = extract(inner.get(usize::from(metadata.options_len)..)?, &mut key);
        let adjacency = Adjacency::new(port, Reach::Resolving, tunnel.tos(), tunnel.ttl());
        let own = adjacency.patch(&key, self.hasher.flow_hash(packet), vni, 0);
        let patch =
            EncapPatch { src_port: own.src_port, tos: own.tos, ttl: own.ttl, ..encap_patch(vni, metadata) };
        let template = EncapTemplate::new(spec);
        let mut packet = vec![0; template.header_len()];
        template.write(&mut packet, inner.len(), &patch).ok()?;
        packet.extend(inner);
        if template.wants_checksum() {
            template.fill_checksum(&mut packet).ok()?;
        }
        Some((packet, patch))
    }
}

/// Whether a frame behind `options_len` bytes may leave in outer fragments.
fn may_be_divided(frame: &[u8], options_len: usize) -> bool {
    let frame = frame.get(options_len..).unwrap_or(&[]);
    let mut key = FlowKey::ZERO;
    let l3 = extract(frame, &mut key).map_or(0, |parsed| parsed.l3.into());
    fragment::may_be_divided(frame, key.dl_type.get(), l3)
}

/// Makes a tunnel packet, whose IP header begins at `l3`, the first of the fragments that it leaves in; says how many they are.
fn keep_first_fragment(packet: &mut Vec<u8>, l3: usize, mtu: usize) -> usize {
    let is_ipv6 = packet.get(l3).is_some_and(|first| first >> 4 == 6);
    let header = if is_ipv6 { IPV6_LEN + FRAGMENT_LEN } else { IPV4_LEN };
    let payload = packet.len().saturating_sub(l3 + if is_ipv6 { IPV6_LEN } else { IPV4_LEN });
    let each = (mtu.saturating_sub(header) & !7).max(8);
    if is_ipv6 {
        let next = std::mem::replace(&mut packet[l3 + ipv6::NEXT_HEADER], IP_FRAGMENT);
        let at = l3 + IPV6_LEN;
        packet.splice(at..at, [next, 0, 0, 1, 0, 0, 0, 0]);
        packet.truncate(l3 + header + each);
        let len = (FRAGMENT_LEN + each) as u16;
        packet[l3 + ipv6::PAYLOAD_LEN..][..2].copy_from_slice(&len.to_be_bytes());
    } else {
        packet.truncate(l3 + header + each);
        packet[l3 + ipv4::TOTAL_LEN..][..2].copy_from_slice(&((header + each) as u16).to_be_bytes());
        packet[l3 + ipv4::FRAGMENT..][..2].copy_from_slice(&IPV4_MF.to_be_bytes());
        fragment::fill_header_checksum(packet, l3);
    }
    payload.div_ceil(each)
}
