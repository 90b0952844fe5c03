//! A bridge in memory that does what it is told and forwards nothing.

use flow::ofp::{FlowFilter, FlowSpec, GroupSpec, MeterSpec, PORT_LOCAL};
use openflow::server::{Bridge, Change, Changes, Event, Origin};
use openflow::{
    BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, Code, Desc, Error, Features, FlowCommand, FlowMod, FlowStats,
    GROUP_ALL, GroupCommand, GroupDesc, GroupMod, GroupStats, METER_ALL, MeterCommand, MeterConfig, MeterMod,
    MeterStats, NO_FLOOD, PacketIn, PacketOut, PacketReason, Port, PortFeatures, PortMod, PortStats,
    RemovedReason, TableStats, UpdateEvent,
};
use std::sync::Arc;
use std::time::Duration;

/// The bridge.
#[derive(Clone, Default)]
pub struct Memory {
    /// Its flows.
    pub flows: Vec<FlowSpec>,
    /// Its groups.
    pub groups: Vec<GroupSpec>,
    /// Its meters.
    pub meters: Vec<MeterSpec>,
    /// Configuration of port 1.
    pub port_config: u32,
    /// What happened since somebody last asked.
    pub events: Vec<Event>,
}

fn flow_event(event: UpdateEvent, spec: &FlowSpec, origin: Origin) -> Event {
    let (spec, reason) = (Arc::new(spec.clone()), RemovedReason::Delete);
    Event::Flow { event, spec, before: None, reason, origin: Some(origin) }
}

/// A packet that went to CONTROLLER.
fn packet_event(packet: &PacketOut) -> Event {
    Event::Packet {
        packet: Box::new(PacketIn {
            total_len: packet.data.len() as u32,
            reason: PacketReason::Action,
            cookie: Some(5),
            metadata: packet.metadata,
            data: packet.data.clone(),
            ..PacketIn::default()
        }),
        controller: 0,
    }
}

impl Memory {
    fn flow(&mut self, change: &FlowMod, origin: Origin) {
        let (filter, strict) = (change.filter(), change.command.is_strict());
        let chosen = |flow: &FlowSpec| filter.selects(flow, strict);
        let mut add = change.command == FlowCommand::Add;
        match change.command {
            FlowCommand::Delete | FlowCommand::DeleteStrict => {
                let gone = self.flows.iter().filter(|flow| chosen(flow));
                self.events.extend(gone.map(|flow| flow_event(UpdateEvent::Removed, flow, origin)));
                self.flows.retain(|flow| !chosen(flow));
            }
            FlowCommand::Modify | FlowCommand::ModifyStrict => {
                add = !self.flows.iter().any(chosen) && change.new_cookie.is_some() && change.cookie.1 == 0;
                for flow in self.flows.iter_mut().filter(|flow| chosen(flow)) {
                    flow.actions.clone_from(&change.actions);
                    flow.cookie = change.new_cookie.unwrap_or(flow.cookie);
                }
            }
            FlowCommand::Add => {}
        }
        if add {
            let new = FlowSpec { check_overlap: false, reset_counts: false, ..change.spec() };
            let same = |flow: &FlowSpec| {
                (flow.table, flow.priority, flow.matches) == (new.table, new.priority, new.matches)
            };
            self.flows.retain(|flow| !same(flow));
            self.events.push(flow_event(UpdateEvent::Added, &new, origin));
            self.flows.push(new);
        }
    }

    fn group(&mut self, change: &GroupMod) -> Result<(), Error> {
        let at = self.groups.iter().position(|group| group.id == change.group.id);
        let unknown = || Error::new(Code::OfpgmfcUnknownGroup, "no such group");
        match change.command {
            GroupCommand::Add if at.is_some() => {
                return Err(Error::new(Code::OfpgmfcGroupExists, "there is one"));
            }
            GroupCommand::Add => self.groups.push(change.group.clone()),
            GroupCommand::Modify => self.groups[at.ok_or_else(unknown)?] = change.group.clone(),
            GroupCommand::AddOrModify => match at {
                Some(at) => self.groups[at] = change.group.clone(),
                None => self.groups.push(change.group.clone()),
            },
            GroupCommand::Delete => {
                self.groups.retain(|group| change.group.id != GROUP_ALL && group.id != change.group.id);
            }
            GroupCommand::InsertBucket => {
                let group = &mut self.groups[at.ok_or_else(unknown)?];
                let at = match change.bucket {
                    BUCKET_FIRST => 0,
                    BUCKET_LAST => group.buckets.len(),
                    id => group.buckets.iter().position(|bucket| bucket.id == id).map_or(0, |at| at + 1),
                };
                group.buckets.splice(at..at, change.group.buckets.iter().cloned());
            }
            GroupCommand::RemoveBucket => {
                let group = &mut self.groups[at.ok_or_else(unknown)?];
                match change.bucket {
                    BUCKET_ALL => group.buckets.clear(),
                    BUCKET_FIRST => drop(group.buckets.remove(0)),
                    BUCKET_LAST => drop(group.buckets.pop()),
                    id => group.buckets.retain(|bucket| bucket.id != id),
                }
            }
        }
        Ok(())
    }

    fn meter(&mut self, change: &MeterMod) -> Result<(), Error> {
        let at = self.meters.iter().position(|meter| meter.id == change.meter.id);
        match (change.command, at) {
            (MeterCommand::Add, Some(_)) => return Err(Error::new(Code::OfpmmfcMeterExists, "there is one")),
            (MeterCommand::Add, None) => self.meters.push(change.meter),
            (MeterCommand::Modify, Some(at)) => self.meters[at] = change.meter,
            (MeterCommand::Modify, None) => {
                return Err(Error::new(Code::OfpmmfcUnknownMeter, "no such meter"));
            }
            (MeterCommand::Delete, _) => {
                let id = change.meter.id;
                self.meters.retain(|meter| id != METER_ALL && meter.id != id);
            }
        }
        Ok(())
    }

    fn port(&mut self, change: &PortMod) {
        self.port_config = self.port_config & !change.mask | change.config & change.mask;
    }
}

/// Ports of the bridge.
pub fn ports() -> [(u32, &'static str); 4] {
    [(1, "p0"), (2, "p1"), (3, "vx1"), (PORT_LOCAL, "br0")]
}

impl Bridge for Memory {
    fn features(&mut self) -> Features {
        Features {
            datapath_id: 0x0000_0200_0000_0a01,
            n_tables: 254,
            capabilities: 0x2cf,
            actions: 0xfff,
            ..Features::default()
        }
    }

    fn desc(&mut self) -> Desc {
        Desc { mfr: "vxswitch".into(), sw: "0.1.0".into(), dp: "br0".into(), ..Desc::default() }
    }

    fn ports(&mut self) -> Vec<Port> {
        ports()
            .map(|(number, name)| Port {
                number,
                name: name.into(),
                hw_addr: [2, 0, 0, 0, 0, number as u8],
                config: if number == 1 { self.port_config } else { 0 },
                curr: PortFeatures::of_speed(10_000, true),
                curr_speed: 10_000_000,
                ..Port::default()
            })
            .into()
    }

    fn port_stats(&mut self) -> Vec<PortStats> {
        ports()
            .map(|(number, _)| PortStats {
                number,
                rx_packets: 7,
                tx_bytes: 1 << 40,
                duration: Duration::from_millis(1500),
                ..PortStats::default()
            })
            .into()
    }

    fn flows(&mut self, filter: &FlowFilter) -> Vec<FlowStats> {
        let all = self.flows.iter().filter(|flow| filter.selects(flow, false));
        let stats = |spec: &FlowSpec| FlowStats {
            spec: spec.clone().into(),
            duration: Duration::from_millis(2250),
            packets: 3,
            bytes: 180,
            idle_age: Some(1),
            ..FlowStats::default()
        };
        all.map(stats).collect()
    }

    fn tables(&mut self) -> Vec<TableStats> {
        let count = |table: u8| self.flows.iter().filter(|flow| flow.table == table).count() as u32;
        (0..254)
            .map(|table| TableStats {
                table,
                name: format!("table{table}"),
                max_entries: 1_000_000,
                active: count(table),
                ..TableStats::default()
            })
            .collect()
    }

    fn groups(&mut self) -> Vec<GroupDesc> {
        self.groups.iter().cloned().map(GroupDesc).collect()
    }

    fn group_stats(&mut self) -> Vec<GroupStats> {
        let stats = |group: &GroupSpec| GroupStats {
            group: group.id,
            packets: 5,
            buckets: vec![(1, 2); group.buckets.len()],
            ..GroupStats::default()
        };
        self.groups.iter().map(stats).collect()
    }

    fn meters(&mut self) -> Vec<MeterConfig> {
        self.meters.iter().copied().map(MeterConfig).collect()
    }

    fn meter_stats(&mut self) -> Vec<MeterStats> {
        let stats = |meter: &MeterSpec| MeterStats {
            meter: meter.id,
            packets_in: 9,
            bands: vec![(1, 60)],
            ..MeterStats::default()
        };
        self.meters.iter().map(stats).collect()
    }

    fn change(&mut self, change: Change, origin: Origin) -> Result<(), Error> {
        match change {
            Change::Flow(flow) => self.flow(&flow, origin),
            Change::Group(group) => self.group(&group)?,
            Change::Meter(meter) => self.meter(&meter)?,
            Change::Port(port) if port.mask & !(NO_FLOOD | 1) != 0 => {
                return Err(Error::new(Code::OfppmfcBadConfig, "only flood and down"));
            }
            Change::Port(port) => self.port(&port),
            Change::Packet(packet) => self.events.push(packet_event(&packet)),
        }
        Ok(())
    }

    fn change_all(&mut self, changes: &mut Changes<'_>, connection: u64) -> Result<(), (usize, Error)> {
        let before = self.clone();
        for (at, change) in changes.enumerate() {
            let made = change.and_then(|(change, xid)| self.change(change, Origin { connection, xid }));
            if let Err(error) = made {
                *self = before;
                return Err((at, error));
            }
        }
        Ok(())
    }

    fn settle(&mut self) {}
}
