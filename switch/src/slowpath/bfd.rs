//! BFD sessions of ports: their packets out and in, their time, and what follows when a path goes or comes.

use super::SlowPath;
use crate::bfd::{frame, session::Session};
use crate::bridge::PortBfd;
use crate::bridge::translate::translate_output;
use api::{BfdRow, BfdSide};
use config::BfdOptions;
use datapath::message::PacketBuffer;
use flow::program::PortId;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};
use wire::key::FlowKey;
use wire::tunnel::outer::clear_tunnel;
use wire::view::BfdControl;

/// First of the UDP source ports (RFC 5881, section 4).
const FIRST_SRC_PORT: u16 = 49_152;

/// A session, and what of its frames stays the same.
#[derive(Debug)]
struct Watch {
    session: Session,
    src_port: u16,
    /// Packets that came and were none of the session's.
    ignored: u64,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_port: BTreeMap<PortId, Watch>,
    /// When the first of them has something to do.
    due: Option<Instant>,
}

impl Sessions {
    /// The session of a port that goes.
    pub(super) fn remove(&mut self, port: PortId) {
        self.by_port.remove(&port);
    }

    /// Something has changed: all are looked at in the next turn.
    fn look_soon(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// A number that is no other session's and that nobody can guess.
    fn discriminator(&self) -> u32 {
        loop {
            let number = random() as u32;
            if number != 0 && self.by_port.values().all(|watch| watch.session.discriminator() != number) {
                return number;
            }
        }
    }
}

/// A number that nobody can guess.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl SlowPath {
    /// Gives a port a session, other settings for it, or none. The caller commits.
    pub(super) fn configure_bfd(&mut self, id: PortId, options: Option<BfdOptions>) {
        let now = self.now();
        let Some(options) = options else {
            self.bfd.remove(id);
            self.bfd_differs(id);
            return;
        };
        if let Some(watch) = self.bfd.by_port.get_mut(&id) {
            watch.session.configure(options, now);
        } else {
            let session = Session::new(options, self.bfd.discriminator(), random(), now);
            let src_port = FIRST_SRC_PORT + random() as u16 % (u16::MAX - FIRST_SRC_PORT + 1);
            self.bfd.by_port.insert(id, Watch { session, src_port, ignored: 0 });
        }
        self.bfd.look_soon(now);
        self.bfd_differs(id);
    }

    /// Makes the port say what its session says; true when it is live now and was not, or the other way round.
    fn bfd_differs(&mut self, id: PortId) -> bool {
        let bfd = self.bfd.by_port.get(&id).map(|watch| {
            let options = watch.session.options();
            PortBfd {
                check_tnl_key: options.check_tnl_key,
                remote_dst_mac: options.remote_dst_mac,
                forwarding: watch.session.is_forwarding(),
            }
        });
        let Some(port) = self.state.port_mut(id) else { return false };
        let was_live = port.is_live();
        port.bfd = bfd;
        port.is_live() != was_live
    }

    fn show_bfd(&mut self, id: PortId) {
        if self.bfd_differs(id)
            && let Some(port) = self.state.port(id)
        {
            let forwarding = port.bfd.is_none_or(|bfd| bfd.forwarding);
            tracing::info!(target: "vxswitch::bfd", port = %port.name, forwarding, "the path behind the port");
            self.liveness_changed(id);
        }
    }

    /// A packet for the session of a port.
    pub(super) fn bfd_received(&mut self, at: PortId, buffer: &PacketBuffer, now: Instant) {
        let Some(watch) = self.bfd.by_port.get_mut(&at) else { return };
        match frame::parse(buffer.bytes()) {
            Ok(control) => watch.session.receive(&control, now),
            Err(_) => watch.ignored += 1,
        }
        self.bfd.look_soon(now);
        self.show_bfd(at);
    }

    /// Lets the sessions whose time has come do what is due. Says whether there were any.
    pub(super) fn run_bfd(&mut self, now: Instant) -> bool {
        if self.bfd.due.is_none_or(|due| due > now) {
            return false;
        }
        let ports: Vec<PortId> = self.bfd.by_port.keys().copied().collect();
        for id in ports {
            let packets = self.workers.iter().map(|worker| worker.counters.port(id).rx.packets.get()).sum();
            let Some(watch) = self.bfd.by_port.get_mut(&id) else { continue };
            let (control, options, src_port) =
                (watch.session.poll(now, packets), *watch.session.options(), watch.src_port);
            if let Some(control) = control {
                self.send_bfd(id, &options, src_port, &control);
            }
            self.show_bfd(id);
        }
        self.bfd.due = self.bfd.by_port.values().map(|watch| watch.session.due(now)).min();
        true
    }

    /// Sends a packet out of a port, whatever the bridge's rules say.
    fn send_bfd(&mut self, to: PortId, options: &BfdOptions, src_port: u16, control: &BfdControl) {
        let Some(bridge) = self.state.port(to).and_then(|port| self.state.bridge(port.bridge)) else {
            return;
        };
        let mut key = FlowKey { in_port: bridge.local.0.into(), ..FlowKey::ZERO };
        clear_tunnel(&mut key);
        let mut bytes = [0; frame::LEN];
        if frame::build(&mut bytes, options, bridge.mac, src_port, control).is_ok() {
            let oam = options.oam;
            self.send_as(key, &bytes, |state, key| translate_output(state, key, to, oam));
        }
    }

    /// Says that packets get to the other side of a port, or not, whatever its session says; `None`: as it says. Of all
    /// ports without a name. False when the port has no session.
    pub fn force_bfd(&mut self, port: Option<&str>, forwarding: Option<bool>) -> bool {
        let now = self.now();
        let chosen: Vec<PortId> = match port {
            Some(name) => self.state.port_named(name).into_iter().collect(),
            None => self.bfd.by_port.keys().copied().collect(),
        };
        let mut found = port.is_none();
        for id in chosen {
            if let Some(watch) = self.bfd.by_port.get_mut(&id) {
                watch.session.force(forwarding, now);
                found = true;
                self.show_bfd(id);
            }
        }
        found
    }

    /// The sessions, by name of their ports.
    pub fn bfd_view(&self) -> Vec<BfdRow> {
        let now = self.now();
        let mut rows: Vec<BfdRow> =
            self.bfd.by_port.iter().filter_map(|(id, w)| self.bfd_row(*id, w, now)).collect();
        rows.sort_by(|a, b| a.interface.cmp(&b.interface));
        rows
    }

    /// The session of a port.
    pub fn bfd_of(&self, id: PortId) -> Option<BfdRow> {
        self.bfd_row(id, self.bfd.by_port.get(&id)?, self.now())
    }

    fn bfd_row(&self, id: PortId, watch: &Watch, now: Instant) -> Option<BfdRow> {
        let session = &watch.session;
        let (state, diagnostic) = session.state();
        let (last_tx, next_tx, expires) = session.times();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ahead = |at: Instant| millis(at.saturating_duration_since(now));
        let (min_tx, min_rx) = session.announced();
        let remote = session.remote();
        Some(BfdRow {
            interface: self.state.port(id)?.name.clone(),
            forwarding: session.is_forwarding(),
            flap_count: session.flaps(),
            cpath_down: session.options().cpath_down,
            polling: session.is_polling(),
            tx_interval: millis(session.tx_interval()),
            rx_interval: millis(session.rx_interval()),
            detect_time: expires.map(ahead),
            next_tx: ahead(next_tx),
            last_tx: last_tx.map(|at| millis(now.saturating_duration_since(at))),
            ignored: watch.ignored,
            local: BfdSide {
                state: state.name().into(),
                diagnostic: diagnostic.name().into(),
                discriminator: session.discriminator(),
                min_tx: min_tx.into(),
                min_rx: min_rx.into(),
                mult: session.options().mult,
            },
            remote: BfdSide {
                state: remote.state.name().into(),
                diagnostic: remote.diagnostic.name().into(),
                discriminator: remote.discriminator,
                min_tx: u64::from(remote.min_tx) / 1000,
                min_rx: u64::from(remote.min_rx) / 1000,
                mult: remote.mult,
            },
        })
    }
}
