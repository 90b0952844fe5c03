//! Packets that rules send to CONTROLLER, on their way to one connection.

use crate::control::app::App;
use crate::slowpath::capture::{CaptureSource, Captured};
use crate::slowpath::handle::Stopped;
use flow::ofp::{Field, Match, MatchKey};
use flow::program::PortId;
use openflow::server::Event;
use openflow::{PacketIn, PacketReason};
use std::collections::BTreeMap;
use tokio::sync::mpsc::{Receiver, channel};
use wire::key::{FlowKey, TUN_IPV6, TUN_PRESENT};

/// Packets that wait for a connection before more are lost.
const WAITING: usize = 512;
/// Packets sent at once.
const AT_ONCE: usize = 64;

/// The packets of a bridge for a connection: none before it listens.
#[derive(Debug, Default)]
pub(super) struct Packets {
    coming: Option<Receiver<Captured>>,
    /// Those that came, and are not events yet.
    taken: Vec<Captured>,
}

impl Packets {
    /// Listens from here on, until this is dropped. Does nothing if it listens already.
    ///
    /// # Errors
    /// The switch is going down.
    pub async fn listen(&mut self, app: &App, bridge: &str) -> Result<(), Stopped> {
        if self.coming.is_none() {
            let ((sink, packets), name) = (channel(WAITING), bridge.to_owned());
            app.handle
                .call(move |slow| {
                    if let Some(id) = slow.state.bridge_named(&name) {
                        slow.capture(CaptureSource::Controller(id), None, sink);
                    }
                })
                .await?;
            self.coming = Some(packets);
        }
        Ok(())
    }

    /// The next packets. May be dropped at any time without losing one.
    ///
    /// # Errors
    /// The switch is going down.
    pub async fn next(&mut self, app: &App) -> Result<Vec<Event>, Stopped> {
        let Some(coming) = &mut self.coming else { return std::future::pending().await };
        if self.taken.is_empty() && coming.recv_many(&mut self.taken, AT_ONCE).await == 0 {
            // The bridge is gone: its connections will be.
            return std::future::pending().await;
        }
        let ids: Vec<PortId> = self.taken.iter().map(|packet| packet.port).collect();
        let numbers: BTreeMap<PortId, u32> = app
            .handle
            .call(move |slow| ids.iter().filter_map(|id| Some((*id, slow.state.port(*id)?.ofport))).collect())
            .await?;
        let event = |packet: Captured| Some(event(&packet, *numbers.get(&packet.port)?));
        Ok(self.taken.drain(..).filter_map(event).collect())
    }
}

/// The port that a packet came in by, and the tunnel that it came through.
fn metadata(in_port: u32, packet: &FlowKey) -> Match {
    let whole = MatchKey { flow: FlowKey { in_port, ..*packet }, ..MatchKey::ZERO };
    let fields = if packet.tun_flags & TUN_IPV6 != 0 {
        [Field::InPort, Field::TunId, Field::TunIpv6Src, Field::TunIpv6Dst]
    } else {
        [Field::InPort, Field::TunId, Field::TunSrc, Field::TunDst]
    };
    let (mut key, mut mask) = (MatchKey::ZERO, MatchKey::ZERO);
    let of_tunnel = if packet.tun_flags & TUN_PRESENT != 0 { fields.len() } else { 1 };
    for field in &fields[..of_tunnel] {
        field.set(&mut key, field.get(&whole));
        field.set(&mut mask, field.info().exact());
    }
    Match::new(&key, &mask)
}

fn event(packet: &Captured, in_port: u32) -> Event {
    let sent_by = packet.sent_by;
    Event::Packet {
        packet: Box::new(PacketIn {
            total_len: u32::try_from(packet.length).unwrap_or(u32::MAX),
            reason: PacketReason::Action,
            table: sent_by.map_or(0, |rule| rule.table),
            cookie: sent_by.and_then(|rule| rule.cookie),
            metadata: metadata(in_port, &sent_by.map_or(FlowKey::ZERO, |rule| rule.key)),
            data: packet.bytes.to_vec(),
            userdata: Vec::new(),
        }),
        // It was cut to what the action asked for.
        max_len: Some(u16::MAX),
        controller: 0,
    }
}
