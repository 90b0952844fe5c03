//! What happens to a bridge, as connections hear it.

use super::{Connection, Origin, PacketInFormat};
use crate::{
    Dialect, FlowRemoved, FlowUpdate, Message, PacketIn, PortStatus, RemovedReason, Role, TableStatus,
    UpdateEvent, Version, encode, monitor_flags,
};
use flow::ofp::{Action, FlowFilter, FlowSpec};
use std::sync::Arc;

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A packet for controllers. As in Open vSwitch it goes to them as a whole, since no packet is buffered.
    Packet {
        /// The packet.
        packet: Box<PacketIn>,
        /// Which controllers: their number.
        controller: u16,
    },
    /// A port changed.
    Port(Box<PortStatus>),
    /// A table is fuller or emptier than somebody wanted to know.
    Table(TableStatus),
    /// A flow that wanted it told is gone.
    Removed(Box<FlowRemoved>),
    /// A flow came, went, or changed.
    Flow {
        /// What happened.
        event: UpdateEvent,
        /// The flow, as it is now, or was.
        spec: Arc<FlowSpec>,
        /// The flow as it was before it changed, where that is known.
        before: Option<Arc<FlowSpec>>,
        /// Why it went.
        reason: RemovedReason,
        /// Who did it; `None`: time, or another than a connection.
        origin: Option<Origin>,
    },
}

/// An entry of a monitor's reply.
pub(super) fn update(event: UpdateEvent, spec: FlowSpec, with_actions: bool) -> FlowUpdate {
    FlowUpdate {
        event,
        reason: RemovedReason::default(),
        priority: spec.priority,
        idle_timeout: spec.idle_timeout,
        hard_timeout: spec.hard_timeout,
        table: spec.table,
        cookie: spec.cookie,
        matches: spec.matches,
        actions: if with_actions { spec.actions } else { vec![Action::Drop] },
        xid: 0,
    }
}

impl Connection {
    /// What an event says to this connection, if it hears of it.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        let Some(dialect) = self.dialect else { return Vec::new() };
        let masks = self.masks[usize::from(self.role == Role::Secondary)];
        let message = match event {
            Event::Packet { packet, controller } => {
                let reason = crate::packet::reason_number(packet.reason, dialect.version);
                let hears = masks.packet_in >> reason & 1 != 0 && self.listens();
                if !hears || *controller != self.controller_id {
                    return Vec::new();
                }
                self.packet_in(packet)
            }
            Event::Port(status) if masks.port_status >> status.reason as u32 & 1 != 0 && self.listens() => {
                Message::PortStatus(PortStatus::clone(status))
            }
            Event::Table(status) if masks.table_status >> status.reason as u32 & 1 != 0 && self.listens() => {
                Message::TableStatus(*status)
            }
            Event::Removed(removed)
                if masks.flow_removed >> removed.reason as u32 & 1 != 0 && self.listens() =>
            {
                Message::FlowRemoved(FlowRemoved::clone(removed))
            }
            Event::Flow { event, spec, before, reason, origin } => {
                return self.flow_event(*event, (spec, before.as_deref()), *reason, *origin, &dialect);
            }
            _ => return Vec::new(),
        };
        // OpenFlow 1.0 tells more with NXM, where that is spoken.
        let nicira =
            matches!(message, Message::FlowRemoved(_)) && self.nxm && dialect.version == Version::V10;
        encode(message, 0, Dialect { nicira, ..dialect }, Vec::new()).unwrap_or_default()
    }

    /// Whether it hears of events at all: a controller does, and a tool once it has set `miss_send_len`, as in Open vSwitch.
    pub fn listens(&self) -> bool {
        self.controller || self.config.miss_send_len > 0
    }

    /// Whether it hears of packets that no rule matches, without a rule that says so: before OpenFlow 1.3.
    pub fn hears_misses(&self) -> bool {
        let is_old = self.version().is_some_and(|version| version < Version::V13);
        is_old && self.controller_id == 0 && self.listens()
    }

    /// Whether it waits for what may happen: events, or changes of flows.
    pub fn subscribes(&self) -> bool {
        self.listens() || !self.monitors.is_empty()
    }

    fn packet_in(&self, packet: &PacketIn) -> Message {
        let packet = packet.clone();
        match self.packet_in_format {
            PacketInFormat::Standard => Message::PacketIn(packet),
            PacketInFormat::Nxm => Message::NxPacketIn(packet),
            PacketInFormat::Nxm2 => Message::NxPacketIn2(packet),
        }
    }

    fn flow_event(
        &self,
        event: UpdateEvent,
        (spec, before): (&FlowSpec, Option<&FlowSpec>),
        reason: RemovedReason,
        origin: Option<Origin>,
        dialect: &Dialect,
    ) -> Vec<u8> {
        let wanted = match event {
            UpdateEvent::Added => monitor_flags::ADD,
            UpdateEvent::Removed => monitor_flags::DELETE,
            UpdateEvent::Modified => monitor_flags::MODIFY,
            _ => return Vec::new(),
        };
        let hears = |monitor: &&crate::MonitorRequest| {
            let filter = FlowFilter {
                table: monitor.table,
                out_port: monitor.out_port,
                out_group: monitor.out_group,
                matches: monitor.matches,
                ..FlowFilter::default()
            };
            // One that no longer sends to `out_port` has changed for who asks for those that do.
            let is_meant =
                filter.selects(spec, false) || before.is_some_and(|spec| filter.selects(spec, false));
            monitor.flags & wanted != 0 && is_meant
        };
        let flags = self.monitors.iter().filter(hears).fold(0, |flags, monitor| flags | monitor.flags);
        if flags == 0 {
            return Vec::new();
        }
        let own = origin.filter(|origin| origin.connection == self.id && flags & monitor_flags::OWN == 0);
        let update = match own {
            Some(origin) => {
                FlowUpdate { event: UpdateEvent::Abbreviated, xid: origin.xid, ..FlowUpdate::default() }
            }
            None => FlowUpdate { reason, ..update(event, spec.clone(), flags & monitor_flags::ACTIONS != 0) },
        };
        encode(Message::FlowMonitorReply(vec![update]), 0, *dialect, Vec::new()).unwrap_or_default()
    }
}
