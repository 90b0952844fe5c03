//! Traffic of tunnels by remote VTEP and by VNI, from the statistics of megaflows.
//!
//! A megaflow that chooses among several remotes, by a group or by the packet's length, does not say which one its packets
//! took: they count for the port alone.

use crate::tunnel::port::TunnelPort;
use config::{RemoteIp, TunnelKey};
use flow::program::PortId;
use flow::stats::PacketStats;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::key::{FlowKey, FlowMask};

/// Remote VTEPs, and VNIs, that are counted each by itself; the traffic of further ones is one sum a port.
pub const MAX_ROWS: usize = 4096;

/// Where a megaflow's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TunnelSource {
    /// The tunnel port.
    pub port: PortId,
    /// The remote VTEP, if all packets of the megaflow come from one.
    pub remote: Option<IpAddr>,
    /// The VNI, if all packets of the megaflow have one.
    pub vni: Option<u32>,
}

impl TunnelSource {
    /// Of a megaflow whose in-port is this tunnel port.
    pub fn new(id: PortId, port: &TunnelPort, key: &FlowKey, mask: &FlowMask) -> TunnelSource {
        let remote = if mask.tun_ipv6_src == [u8::MAX; 16] && key.tun_ipv6_src != [0; 16] {
            Some(IpAddr::V6(Ipv6Addr::from(key.tun_ipv6_src)))
        } else if mask.tun_src.get() == u32::MAX && key.tun_src.get() != 0 {
            Some(IpAddr::V4(Ipv4Addr::from(key.tun_src.get())))
        } else {
            match &port.options.remote_ip {
                RemoteIp::Addrs(addrs) if addrs.len() == 1 => addrs.first().copied(),
                _ => None,
            }
        };
        let vni = match port.options.in_key {
            TunnelKey::Vni(vni) => Some(vni),
            TunnelKey::Flow => (mask.tun_id == u32::MAX).then_some(key.tun_id),
        };
        TunnelSource { port: id, remote, vni }
    }
}

/// Inner frames of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directions {
    /// Received and decapsulated.
    pub rx: PacketStats,
    /// Encapsulated.
    pub tx: PacketStats,
}

/// Traffic by port and remote VTEP, and by port and VNI. The row of `None` is for what has no row of its own.
#[derive(Debug, Default)]
pub struct TunnelTraffic {
    /// By remote VTEP.
    vteps: FxHashMap<(PortId, Option<IpAddr>), Directions>,
    /// By VNI.
    vnis: FxHashMap<(PortId, Option<u32>), Directions>,
}

/// The row of `of`, or of the rest of its port when there are too many.
fn row<T: Copy + Eq + Hash>(
    rows: &mut FxHashMap<(PortId, Option<T>), Directions>,
    (port, of): (PortId, Option<T>),
) -> &mut Directions {
    let of = of.filter(|of| rows.len() < MAX_ROWS || rows.contains_key(&(port, Some(*of))));
    rows.entry((port, of)).or_default()
}

impl TunnelTraffic {
    /// Counts frames out of a tunnel.
    pub fn received(&mut self, source: &TunnelSource, stats: PacketStats) {
        row(&mut self.vteps, (source.port, source.remote)).rx += stats;
        row(&mut self.vnis, (source.port, source.vni)).rx += stats;
    }

    /// Counts frames into a tunnel.
    pub fn sent(&mut self, port: PortId, remote: IpAddr, vni: u32, stats: PacketStats) {
        row(&mut self.vteps, (port, Some(remote))).tx += stats;
        row(&mut self.vnis, (port, Some(vni))).tx += stats;
    }

    /// Forgets a port that goes: its number may become another's.
    pub fn remove_port(&mut self, id: PortId) {
        self.vteps.retain(|(port, _), _| *port != id);
        self.vnis.retain(|(port, _), _| *port != id);
    }

    /// By remote VTEP, in no order.
    pub fn by_vtep(&self) -> impl Iterator<Item = (PortId, Option<IpAddr>, Directions)> + '_ {
        self.vteps.iter().map(|((port, remote), traffic)| (*port, *remote, *traffic))
    }

    /// By VNI, in no order.
    pub fn by_vni(&self) -> impl Iterator<Item = (PortId, Option<u32>, Directions)> + '_ {
        self.vnis.iter().map(|((port, vni), traffic)| (*port, *vni, *traffic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::TunnelOptions;

    const PORT: PortId = PortId(7);

    fn source(options: &[(&str, &str)], key: FlowKey, mask: FlowMask) -> TunnelSource {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let options = TunnelOptions::parse(&wire::tunnel::vxlan::TYPE, &options).expect("options");
        TunnelSource::new(PORT, &TunnelPort::new(options), &key, &mask)
    }

    #[test]
    fn a_source_is_what_the_mask_covers_or_the_port_fixes() {
        let key = FlowKey { tun_id: 9, tun_src: 0x0a00_0002.into(), ..FlowKey::ZERO };
        let mask = FlowMask { tun_id: u32::MAX, tun_src: u32::MAX.into(), ..FlowMask::ZERO };
        let flow = [("remote_ip", "flow"), ("key", "flow")];
        let remote = Some("10.0.0.2".parse().unwrap());
        assert_eq!(source(&flow, key, mask), TunnelSource { port: PORT, remote, vni: Some(9) });
        let none = TunnelSource { port: PORT, remote: None, vni: None };
        assert_eq!(source(&flow, FlowKey::ZERO, FlowMask::ZERO), none);
        let part = FlowMask { tun_src: 0xffff_ff00.into(), tun_id: 1, ..FlowMask::ZERO };
        assert_eq!(source(&flow, key.masked(&part), part), none);
        let fixed = [("remote_ip", "10.0.0.3"), ("key", "5")];
        let remote = Some("10.0.0.3".parse().unwrap());
        let expected = TunnelSource { port: PORT, remote, vni: Some(5) };
        assert_eq!(source(&fixed, FlowKey::ZERO, FlowMask::ZERO), expected);
        let two = [("remote_ip", "10.0.0.3,10.0.0.4"), ("key", "5")];
        assert_eq!(source(&two, FlowKey::ZERO, FlowMask::ZERO).remote, None);
        let v6 = "fd00::2".parse::<Ipv6Addr>().unwrap();
        let key = FlowKey { tun_ipv6_src: v6.octets(), ..FlowKey::ZERO };
        let mask = FlowMask { tun_ipv6_src: [u8::MAX; 16], ..FlowMask::ZERO };
        assert_eq!(source(&flow, key, mask).remote, Some(v6.into()));
    }

    #[test]
    fn rows_are_bounded_and_nothing_is_lost() {
        let mut traffic = TunnelTraffic::default();
        let one = PacketStats::new(1, 100);
        let count = MAX_ROWS as u32 + 10;
        for n in 0..count {
            for _ in 0..2 {
                traffic.sent(PORT, IpAddr::V4(n.into()), n, one);
                let source = TunnelSource { port: PORT, remote: Some(IpAddr::V4(n.into())), vni: Some(n) };
                traffic.received(&source, one);
            }
        }
        assert_eq!(traffic.by_vtep().count(), MAX_ROWS + 1);
        let sent: u64 = traffic.by_vtep().map(|(.., row)| row.tx.packets).sum();
        let received: u64 = traffic.by_vni().map(|(.., row)| row.rx.bytes).sum();
        assert_eq!((sent, received), (2 * u64::from(count), 200 * u64::from(count)));
        let rest = traffic.by_vni().find(|(_, vni, _)| vni.is_none()).expect("a row for the rest");
        assert_eq!(rest.2.tx, PacketStats::new(20, 2000));
        traffic.remove_port(PortId(8));
        assert_eq!(traffic.by_vni().count(), MAX_ROWS + 1);
        traffic.remove_port(PORT);
        assert_eq!(traffic.by_vtep().count() + traffic.by_vni().count(), 0);
    }
}
