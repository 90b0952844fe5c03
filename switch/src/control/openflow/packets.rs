//! Packets that rules send to CONTROLLER, on their way to one connection.

use crate::control::app::App;
use crate::slowpath::capture::{CaptureSource, Captured, SentBy};
use crate::slowpath::handle::Stopped;
use flow::ofp::{Field, Match, MatchKey};
use flow::program::PortId;
use openflow::PacketIn;
use openflow::server::Event;
use std::collections::BTreeMap;
use tokio::sync::mpsc::{Receiver, channel};
use wire::key::{FlowKey, TUN_PRESENT};

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
        let event = |packet: Captured| event(&packet, *numbers.get(&packet.port)?);
        Ok(self.taken.drain(..).filter_map(event).collect())
    }
}

/// The port that a packet came in by, the tunnel that it came through, and what actions have set, as they do it by then.
fn metadata(in_port: u32, packet: &FlowKey, set: &Match) -> Match {
    const OF_TUNNEL: [Field; 7] = [
        Field::TunId,
        Field::TunSrc,
        Field::TunDst,
        Field::TunIpv6Src,
        Field::TunIpv6Dst,
        Field::TunGbpId,
        Field::TunGbpFlags,
    ];
    let (mut key, mut mask) = (*set.key(), *set.mask());
    let whole = MatchKey { flow: FlowKey { in_port, ..*packet }, ..MatchKey::ZERO };
    let mut add = |field: Field| {
        field.set(&mut key, field.get(&whole));
        field.set(&mut mask, field.info().exact());
    };
    add(Field::InPort);
    if packet.tun_flags & TUN_PRESENT != 0 {
        let is_set = |field: &Field| field.get(set.mask()) != 0;
        OF_TUNNEL.into_iter().filter(|field| field.get(&whole) != 0 && !is_set(field)).for_each(add);
    }
    Match::new(&key, &mask)
}

fn event(packet: &Captured, in_port: u32) -> Option<Event> {
    let SentBy { message, key } = packet.sent_by.as_ref()?;
    Some(Event::Packet {
        packet: Box::new(PacketIn {
            total_len: u32::try_from(packet.length).unwrap_or(u32::MAX),
            reason: message.reason,
            table: message.table,
            cookie: message.cookie,
            metadata: metadata(in_port, key, &message.metadata),
            data: packet.bytes.to_vec(),
            userdata: message.userdata.clone(),
        }),
        controller: message.controller,
    })
}
