//! Packets that rules send to CONTROLLER, on their way to one connection.

use crate::control::app::App;
use crate::slowpath::SlowPath;
use crate::slowpath::capture::{CaptureId, CaptureSource, Captured, SentBy};
use crate::slowpath::handle::Stopped;
use flow::ofp::{Field, Match, MatchKey};
use openflow::PacketIn;
use openflow::server::Event;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep_until};
use wire::key::{FlowKey, TUN_PRESENT};

/// Packets that wait for a connection before more are lost.
const WAITING: usize = 512;
/// Packets sent at once.
const AT_ONCE: usize = 64;
/// Time between two of these: a port that floods a controller leaves the control thread to others. What comes meanwhile waits, or is
/// lost and counted.
const EVERY: Duration = Duration::from_millis(2);

/// The packets of a bridge for a connection: none before it listens.
#[derive(Debug, Default)]
pub(super) struct Packets {
    coming: Option<Coming>,
    /// Those that came, and are not events yet.
    taken: Vec<Captured>,
}

#[derive(Debug)]
struct Coming {
    id: CaptureId,
    /// When more are taken.
    next: Instant,
    packets: Receiver<Captured>,
    /// Those that no rule matches come too.
    misses: bool,
}

impl Packets {
    /// Listens from here on, until this is dropped; with `misses` to packets that no rule matches, too. Does nothing if it does so
    /// already.
    ///
    /// # Errors
    /// The switch is going down.
    pub async fn listen(&mut self, app: &App, bridge: &str, misses: bool) -> Result<(), Stopped> {
        if self.coming.is_none() {
            let ((sink, packets), name) = (channel(WAITING), bridge.to_owned());
            let begin = move |slow: &mut SlowPath| {
                let id = slow.state.bridge_named(&name)?;
                Some(slow.capture(CaptureSource::Controller(id), None, sink))
            };
            // Without the bridge the connection goes, too.
            let id = app.handle.call(begin).await?;
            self.coming = id.map(|id| Coming { id, next: Instant::now(), packets, misses: false });
        }
        if let Some(coming) = self.coming.as_mut().filter(|coming| coming.misses != misses) {
            let id = coming.id;
            app.handle.call(move |slow| slow.capture_misses(id, misses)).await?;
            coming.misses = misses;
        }
        Ok(())
    }

    /// Ends it at once: whether packets that no rule matches are sent to anybody depends on who listens.
    pub async fn end(self, app: &App) {
        if let Some(Coming { id, .. }) = self.coming {
            // A switch that goes down ends it, too.
            let _ = app.handle.call(move |slow| slow.end_capture(id)).await;
        }
    }

    /// The next packets. May be dropped at any time without losing one.
    pub async fn next(&mut self) -> Vec<Event> {
        let Some(coming) = &mut self.coming else { return std::future::pending().await };
        sleep_until(coming.next).await;
        if self.taken.is_empty() && coming.packets.recv_many(&mut self.taken, AT_ONCE).await == 0 {
            // The bridge is gone: its connections will be.
            return std::future::pending().await;
        }
        coming.next = Instant::now() + EVERY;
        self.taken.drain(..).filter_map(|packet| event(&packet)).collect()
    }
}

/// What a packet came with: what its message says, and of the tunnel that it came through what actions have left.
fn metadata(packet: &FlowKey, set: &Match) -> Match {
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
    let whole = MatchKey { flow: *packet, ..MatchKey::ZERO };
    let add = |field: Field| {
        field.set(&mut key, field.get(&whole));
        field.set(&mut mask, field.info().exact());
    };
    if packet.tun_flags & TUN_PRESENT != 0 {
        let is_set = |field: &Field| field.get(set.mask()) != 0;
        OF_TUNNEL.into_iter().filter(|field| field.get(&whole) != 0 && !is_set(field)).for_each(add);
    }
    Match::new(&key, &mask)
}

fn event(packet: &Captured) -> Option<Event> {
    let SentBy { message, key } = packet.sent_by.as_ref()?;
    Some(Event::Packet {
        packet: Box::new(PacketIn {
            total_len: u32::try_from(packet.length).unwrap_or(u32::MAX),
            reason: message.reason,
            table: message.table,
            cookie: message.cookie,
            metadata: metadata(key, &message.metadata),
            data: packet.bytes.to_vec(),
            userdata: message.userdata.clone(),
        }),
        controller: message.controller,
    })
}
