//! What each message asks for.

use super::reply::{Entries, FLOWS, Reply};
use super::{Bridge, Change, Connection, MOST_MONITORS, Origin, Output, PacketInFormat, TlvChange};
use crate::{
    Aggregate, AsyncConfig, AsyncMasks, Code, Dialect, EVICTION, Empty, Error, GroupFeatures, Message,
    MeterFeatures, MonitorRequest, Number, QueueConfig, Role, RoleRequest, TlvMap, TlvTable, UpdateEvent,
    VACANCY_EVENTS, Version, monitor_flags,
};
use flow::ofp::{FlowFilter, FlowSpec, GROUP_MAX, PORT_MAX};
use std::sync::Arc;
use wire::key::TUN_METADATA_LEN;
use wire::tunnel::geneve::{TLV_FIELDS, Tlv};

/// `OFPC_FRAG_MASK`: what becomes of fragments.
const FRAGMENTS: u16 = 3;
/// Meters that a switch has room for.
const MOST_METERS: u32 = 1024;

impl Connection {
    /// Serves a message, and answers it.
    pub(super) fn serve(
        &mut self,
        message: Message,
        xid: u32,
        form: &Dialect,
        bridge: &mut dyn Bridge,
        output: &mut Output,
    ) -> Result<(), Error> {
        let reply = match message {
            Message::Hello(_) | Message::Error(_) | Message::EchoReply(_) | Message::FlowAge(_) => {
                return Ok(());
            }
            Message::EchoRequest(echo) => Message::EchoReply(echo),
            Message::FeaturesRequest(_) => {
                let mut features = bridge.features();
                if form.version == Version::V10 {
                    features.ports = bridge.ports();
                } else {
                    features.actions = 0;
                }
                Message::FeaturesReply(features)
            }
            Message::GetConfigRequest(_) => Message::GetConfigReply(self.config),
            Message::SetConfig(config) if config.flags & FRAGMENTS != 0 => {
                let why = "fragments: only normal is served, which matches them by nw_frag";
                return Err(Error::new(Code::OfpscfcBadFlags, why));
            }
            Message::SetConfig(config) => {
                if self.role != Role::Secondary {
                    self.config = config;
                    self.subscribe_invalid_ttl(form.version);
                }
                return Ok(());
            }
            Message::DescRequest(_) => Message::DescReply(bridge.desc()),
            Message::BarrierRequest(_) => {
                self.settle(bridge);
                Message::BarrierReply(Empty)
            }
            Message::FlowMod(flow) => return self.change(Change::Flow(flow), xid, bridge),
            Message::GroupMod(group) => return self.change(Change::Group(group.into()), xid, bridge),
            Message::MeterMod(meter) => return self.change(Change::Meter(meter), xid, bridge),
            Message::PortMod(port) => return self.change(Change::Port(port), xid, bridge),
            Message::PacketOut(packet) => {
                // The packet sees the changes before it.
                self.settle(bridge);
                return self.change(Change::Packet(packet.into()), xid, bridge);
            }
            Message::TableMod(change) => {
                self.may_change()?;
                if change.config & !(EVICTION | VACANCY_EVENTS) != 0 {
                    let why =
                        format!("table configuration {:#x}: expected eviction and vacancy", change.config);
                    return Err(Error::new(Code::OfptmfcBadConfig, why));
                }
                if change.config & VACANCY_EVENTS != 0 && change.vacancy.is_none() {
                    return Err(Error::new(Code::OfptmfcBadConfig, "vacancy events at no vacancy"));
                }
                // Before OpenFlow 1.4 it says nothing.
                return if form.version < Version::V14 { Ok(()) } else { bridge.set_table_config(&change) };
            }
            Message::RoleRequest(request) => Message::RoleReply(self.role_request(request, output)?),
            Message::GetAsyncRequest(_) => Message::GetAsyncReply(AsyncConfig {
                primary: self.masks[0].of_version(form.version),
                secondary: self.masks[1].of_version(form.version),
                present: 0xfff,
            }),
            Message::SetAsync(config) | Message::NxSetAsync2(config) => {
                self.set_async(&config);
                return Ok(());
            }
            Message::BundleControl(control) => self.bundle_control(control, xid, bridge, output)?,
            Message::BundleAdd(add) => return self.bundle_add(add, xid, form),
            Message::SetFlowFormat(Number(format @ (0 | 2))) => {
                self.nxm = format == 2;
                return Ok(());
            }
            Message::SetFlowFormat(Number(format)) => {
                return Err(Error::new(Code::OfpbrcEperm, format!("flow format {format}")));
            }
            Message::FlowModTableId(Number(on)) => {
                self.dialect = self.dialect.map(|dialect| Dialect { table_id: on != 0, ..dialect });
                return Ok(());
            }
            Message::SetPacketInFormat(Number(format)) => {
                self.packet_in_format = match format {
                    0 => PacketInFormat::Standard,
                    1 => PacketInFormat::Nxm,
                    2 => PacketInFormat::Nxm2,
                    _ => return Err(Error::new(Code::OfpbrcEperm, format!("packet-in format {format}"))),
                };
                return Ok(());
            }
            Message::SetControllerId(Number(id)) => {
                self.controller_id = id as u16;
                return Ok(());
            }
            Message::TlvTableRequest(_) => {
                let map = |tlv: &Tlv| TlvMap {
                    class: tlv.class,
                    kind: tlv.kind,
                    length: tlv.len,
                    index: tlv.field.into(),
                };
                let maps = bridge.tlvs().tlvs().iter().map(map).collect();
                Message::TlvTableReply(TlvTable {
                    max_space: TUN_METADATA_LEN as u32,
                    max_fields: TLV_FIELDS as u16,
                    maps,
                })
            }
            Message::TlvTableMod(change) => {
                self.may_change()?;
                output.tlv_change = Some(TlvChange { change, message: Vec::new() });
                return Ok(());
            }
            Message::FlowStatsRequest(request) => {
                let flows = bridge.flows(&request.filter());
                if flows.len() > FLOWS {
                    output.reply = Some(Reply::new(Entries::Flows(flows.into_iter()), xid, form));
                    return Ok(());
                }
                Message::FlowStatsReply(flows)
            }
            Message::AggregateRequest(request) => {
                let flows = bridge.flows(&request.filter());
                Message::AggregateReply(Aggregate {
                    packets: flows.iter().map(|flow| flow.packets).sum(),
                    bytes: flows.iter().map(|flow| flow.bytes).sum(),
                    flows: flows.len() as u32,
                })
            }
            Message::TableStatsRequest(_) => Message::TableStatsReply(bridge.tables()),
            Message::TableFeaturesRequest(wanted) if wanted.is_empty() => {
                let tables = bridge.features().n_tables;
                output.reply = Some(Reply::new(Entries::Tables(0..tables, tables), xid, form));
                return Ok(());
            }
            Message::TableFeaturesRequest(_) => {
                return Err(Error::new(Code::OfptffcEperm, "tables can what they can"));
            }
            Message::TableDescRequest(_) => {
                let tables = bridge.features().n_tables;
                Message::TableDescReply((0..tables).map(|table| bridge.table_config(table)).collect())
            }
            Message::PortStatsRequest(request) => {
                let all = bridge.port_stats();
                let all: Vec<_> = all
                    .into_iter()
                    .filter(|one| request.port.is_none_or(|port| port == one.number))
                    .collect();
                Message::PortStatsReply(all)
            }
            Message::PortDescRequest(request) => {
                let all = bridge.ports();
                let wanted = |port: &crate::Port| request.port.is_none_or(|number| number == port.number);
                Message::PortDescReply(all.into_iter().filter(wanted).collect())
            }
            Message::QueueStatsRequest(request) => {
                Connection::known_port(request.port, bridge)?;
                if request.queue.is_some() {
                    return Err(Error::new(Code::OfpqofcBadQueue, "there are no queues"));
                }
                Message::QueueStatsReply(Vec::new())
            }
            Message::QueueGetConfigRequest(request) => {
                Connection::known_port(request.port, bridge)?;
                let port = request.port.unwrap_or(super::ANY_PORT);
                Message::QueueGetConfigReply(QueueConfig { port })
            }
            Message::QueueDescRequest(request) => {
                Connection::known_port(request.port, bridge)?;
                Message::QueueDescReply(Empty)
            }
            Message::GroupDescRequest(request) => {
                let all = bridge.groups();
                Message::GroupDescReply(Connection::wanted_groups(request, all, |one| one.0.id))
            }
            Message::GroupStatsRequest(request) => {
                let all = bridge.group_stats();
                Message::GroupStatsReply(Connection::wanted_groups(request, all, |one| one.group))
            }
            Message::GroupFeaturesRequest(_) => Message::GroupFeaturesReply(group_features(form.version)),
            Message::MeterConfigRequest(request) => {
                let all = bridge.meters();
                Message::MeterConfigReply(Connection::wanted_meters(request, all, |one| one.0.id)?)
            }
            Message::MeterStatsRequest(request) => {
                let all = bridge.meter_stats();
                Message::MeterStatsReply(Connection::wanted_meters(request, all, |one| one.meter)?)
            }
            Message::MeterFeaturesRequest(_) => Message::MeterFeaturesReply(MeterFeatures {
                max_meters: MOST_METERS,
                band_types: 1 << 1,
                capabilities: 0xf,
                max_bands: 1,
                max_color: 0,
            }),
            Message::FlowMonitorRequest(requests) => {
                let found = self.monitor(requests, form.version, bridge)?;
                output.reply = Some(Reply::new(Entries::Monitored(found.into_iter()), xid, form));
                return Ok(());
            }
            Message::FlowMonitorCancel(Number(id)) => {
                let before = self.monitors.len();
                self.monitors.retain(|monitor| monitor.id != id);
                if self.monitors.len() == before {
                    return Err(Error::new(Code::OfpmofcUnknownMonitor, format!("there is no monitor {id}")));
                }
                return Ok(());
            }
            message => {
                let why = format!("{} is what a switch says", message.name());
                return Err(Error::new(Code::OfpbrcBadType, why));
            }
        };
        Connection::send(reply, xid, form, output);
        Ok(())
    }

    /// `OFPC_INVALID_TTL_TO_CONTROLLER`, which OpenFlow had before it had masks of events.
    fn subscribe_invalid_ttl(&mut self, version: Version) {
        const INVALID_TTL_TO_CONTROLLER: u16 = 1 << 2;
        const REASON: u32 = 1 << 2;
        if version < Version::V13 {
            let wanted = self.config.flags & INVALID_TTL_TO_CONTROLLER != 0;
            let reasons = &mut self.masks[0].packet_in;
            *reasons = if wanted { *reasons | REASON } else { *reasons & !REASON };
        }
    }

    fn change(&mut self, change: Change, xid: u32, bridge: &mut dyn Bridge) -> Result<(), Error> {
        self.may_change()?;
        check(&change)?;
        bridge.change(change, Origin { connection: self.id, xid })?;
        self.unsettled = true;
        Ok(())
    }

    fn known_port(port: Option<u32>, bridge: &mut dyn Bridge) -> Result<(), Error> {
        match port {
            Some(number) if !bridge.ports().iter().any(|port| port.number == number) => {
                Err(Error::new(Code::OfpqofcBadPort, format!("there is no port {number}")))
            }
            _ => Ok(()),
        }
    }

    fn role_request(&mut self, request: RoleRequest, output: &mut Output) -> Result<RoleRequest, Error> {
        if request.role != Role::NoChange {
            if let (Role::Primary | Role::Secondary, Some(generation)) = (request.role, request.generation_id)
            {
                self.elections.advance(generation)?;
            }
            output.became_primary = request.role == Role::Primary && self.role != Role::Primary;
            self.role = request.role;
        }
        Ok(RoleRequest { role: self.role, generation_id: self.elections.last() })
    }

    fn set_async(&mut self, config: &AsyncConfig) {
        // As in Open vSwitch: a tool that says what it wants to hear wants to hear it.
        if !self.controller && self.config.miss_send_len == 0 {
            self.config.miss_send_len = super::MISS_SEND_LEN;
        }
        for (kind, masks) in [(1, &config.primary), (0, &config.secondary)] {
            let mine = &mut self.masks[1 - kind];
            let present = |n: usize| config.present >> (2 * n + kind) & 1 != 0;
            // The legacy form has three masks for both roles.
            let legacy = config.present == 0x3f;
            let AsyncMasks {
                packet_in,
                port_status,
                flow_removed,
                role_status,
                table_status,
                requestforward,
            } = masks;
            let parts = [
                (&mut mine.packet_in, *packet_in),
                (&mut mine.port_status, *port_status),
                (&mut mine.flow_removed, *flow_removed),
                (&mut mine.role_status, *role_status),
                (&mut mine.table_status, *table_status),
                (&mut mine.requestforward, *requestforward),
            ];
            for (n, (to, mask)) in parts.into_iter().enumerate() {
                if if legacy { n < 3 } else { present(n) } {
                    *to = mask;
                }
            }
        }
    }

    /// New monitors; what there is already is the answer.
    fn monitor(
        &mut self,
        requests: Vec<MonitorRequest>,
        version: Version,
        bridge: &mut dyn Bridge,
    ) -> Result<Vec<(UpdateEvent, Arc<FlowSpec>, bool)>, Error> {
        let mut out = Vec::new();
        for request in requests {
            // OpenFlow 1.4 and later change and cancel with the same message.
            if version >= Version::V14 && request.command > 0 {
                let at = self.monitors.iter().position(|monitor| monitor.id == request.id);
                let Some(at) = at else {
                    let why = format!("there is no monitor {}", request.id);
                    return Err(Error::new(Code::OfpmofcUnknownMonitor, why));
                };
                self.monitors.remove(at);
                if request.command == 2 {
                    continue;
                }
            }
            if self.monitors.iter().any(|monitor| monitor.id == request.id) {
                let why = format!("there is a monitor {}", request.id);
                return Err(Error::new(Code::OfpmofcMonitorExists, why));
            }
            if request.flags & !0x7f != 0 {
                let why = format!("monitor flags {:#x}", request.flags);
                return Err(Error::new(Code::OfpmofcBadFlags, why));
            }
            if self.monitors.len() >= MOST_MONITORS {
                return Err(Error::new(Code::OfpmofcUnknown, "too many monitors"));
            }
            if request.flags & monitor_flags::INITIAL != 0 {
                let filter = FlowFilter {
                    table: request.table,
                    out_port: request.out_port,
                    out_group: request.out_group,
                    matches: request.matches,
                    ..FlowFilter::default()
                };
                let event = if version >= Version::V14 { UpdateEvent::Initial } else { UpdateEvent::Added };
                let actions = request.flags & monitor_flags::ACTIONS != 0;
                out.extend(bridge.flows(&filter).into_iter().map(|flow| (event, flow.spec, actions)));
            }
            self.monitors.push(request);
        }
        Ok(out)
    }
}

/// What a change must fulfil before a bridge sees it.
pub(super) fn check(change: &Change) -> Result<(), Error> {
    match change {
        Change::Flow(flow) if flow.buffer_id != crate::NO_BUFFER && flow.buffer_id != 0 => {
            Err(Error::new(Code::OfpbrcBufferUnknown, format!("buffer {}", flow.buffer_id)))
        }
        Change::Flow(flow) => match flow.command {
            crate::FlowCommand::Delete | crate::FlowCommand::DeleteStrict => Ok(()),
            _ => crate::check::flow_actions(&flow.actions, &flow.matches, flow.table.unwrap_or(0)),
        },
        Change::Group(group) => {
            group.group.buckets.iter().try_for_each(|bucket| crate::check::free_actions(&bucket.actions))?;
            if group.group.id > GROUP_MAX && group.command != crate::GroupCommand::Delete {
                let why = format!("group {:#x} is above {GROUP_MAX:#x}", group.group.id);
                return Err(Error::new(Code::OfpgmfcInvalidGroup, why));
            }
            Ok(())
        }
        Change::Packet(packet) if packet.buffer_id != crate::NO_BUFFER => {
            Err(Error::new(Code::OfpbrcBufferUnknown, format!("buffer {}", packet.buffer_id)))
        }
        Change::Packet(packet) => {
            crate::check::free_actions(&packet.actions)?;
            match packet.in_port() {
                Some(port) if port > PORT_MAX && !matches!(port, 0xfffe | 0xfffd) => {
                    Err(Error::new(Code::OfpbrcBadPort, format!("no packet comes in by port {port:#x}")))
                }
                _ => Ok(()),
            }
        }
        Change::Meter(_) | Change::Port(_) => Ok(()),
    }
}

fn group_features(version: Version) -> GroupFeatures {
    // Actions by their numbers: output, push_vlan, pop_vlan, group, set_nw_ttl, dec_nw_ttl, set_field.
    let mut actions = 1 << 0 | 1 << 17 | 1 << 18 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25;
    if version >= Version::V15 {
        actions |= 1 << 28;
    }
    GroupFeatures { types: 0xf, capabilities: 0x7, max_groups: [GROUP_MAX; 4], actions: [actions; 4] }
}
