//! Packets that are too long for a tunnel: their senders are told, and routers of the underlay tell us.

use super::SlowPath;
use crate::bridge::translate::translate;
use crate::bridge::{BridgeId, Port, PortKind};
use crate::tunnel::adjacency::ReachSpec;
use flow::program::AdjacencyId;
use std::time::Instant;
use wire::key::FlowKey;
use wire::too_big::{REPLY_MAX, quoted, too_big_reply};
use wire::tunnel::encap::EncapAddrs;

/// Messages of routers looked at between two looks at timers: each costs a walk through all adjacencies.
const MAX_PATH_ERRORS: u32 = 16;

impl SlowPath {
    /// A frame was too long for the path to an adjacency's remote. Its sender is told as if by the remote host: the message
    /// comes out of the tunnel and goes through the bridge as any other packet from there.
    pub(super) fn too_big(&mut self, frame: &[u8], adjacency: AdjacencyId, vni: u32) {
        let Some(remote) = self.tunnels.remote(adjacency) else { return };
        let Some(ReachSpec::Ready(header, _, mtu)) = &remote.installed else { return };
        let mut reply = [0; REPLY_MAX];
        let written = mtu.inner(header).and_then(|longest| too_big_reply(frame, longest, &mut reply));
        let Some(reply) = written.and_then(|len| reply.get(..len)) else { return };
        let mut key = FlowKey { in_port: remote.port.0.into(), tun_id: vni, ..FlowKey::ZERO };
        match header.addrs {
            EncapAddrs::V4(local, remote) => {
                (key.tun_src, key.tun_dst) = (u32::from(remote).into(), u32::from(local).into());
            }
            EncapAddrs::V6(local, remote) => {
                (key.tun_ipv6_src, key.tun_ipv6_dst) = (remote.octets(), local.octets());
            }
        }
        self.too_big_sent += 1;
        self.send_as(key, reply, translate);
    }

    /// A router says that packets of ours were too long for its next link; `original` is the beginning of one.
    pub(super) fn path_too_narrow(&mut self, bridge: BridgeId, original: &[u8], mtu: u32, now: Instant) {
        let Some((from, to, transport)) = quoted(original) else { return };
        let is_tunnels = |port: &Port| matches!(&port.kind, PortKind::Tunnel(tunnel) if tunnel.options.transport == transport);
        let is_ours = self.state.bridge(bridge).is_some_and(|bridge| bridge.owns(from))
            && self.state.ports().any(|(_, port)| is_tunnels(port));
        if !is_ours || self.path_errors == MAX_PATH_ERRORS {
            return;
        }
        self.path_errors += 1;
        self.with_tunnels(|tunnels, state, _| tunnels.learn_path_mtu(state, to, mtu, now));
    }
}
