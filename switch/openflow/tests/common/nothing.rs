//! A bridge for tests of what comes before any bridge.

use flow::ofp::FlowFilter;
use openflow::server::{Bridge, Change, Changes, Origin};
use openflow::{
    Desc, Error, Features, FlowStats, GroupDesc, GroupStats, MeterConfig, MeterStats, Port, PortStats,
    TableStats,
};

/// A bridge that has nothing and takes everything.
pub struct Nothing;

impl Bridge for Nothing {
    fn features(&mut self) -> Features {
        Features { n_tables: 3, ..Features::default() }
    }
    fn desc(&mut self) -> Desc {
        Desc::default()
    }
    fn ports(&mut self) -> Vec<Port> {
        vec![Port::default()]
    }
    fn port_stats(&mut self) -> Vec<PortStats> {
        Vec::new()
    }
    fn flows(&mut self, _: &FlowFilter) -> Vec<FlowStats> {
        Vec::new()
    }
    fn tables(&mut self) -> Vec<TableStats> {
        Vec::new()
    }
    fn groups(&mut self) -> Vec<GroupDesc> {
        Vec::new()
    }
    fn group_stats(&mut self) -> Vec<GroupStats> {
        Vec::new()
    }
    fn meters(&mut self) -> Vec<MeterConfig> {
        Vec::new()
    }
    fn meter_stats(&mut self) -> Vec<MeterStats> {
        Vec::new()
    }
    fn change(&mut self, _: Change, _: Origin) -> Result<(), Error> {
        Ok(())
    }
    fn change_all(&mut self, _: &mut Changes<'_>, _: u64) -> Result<(), (usize, Error)> {
        Ok(())
    }
    fn settle(&mut self) {}
}
