//! Which frames are tunnel packets for this switch, and which tunnel port takes them.
//!
//! Built whole by the slow path whenever a port, an address or a tunnel option changes, then read by
//! workers without a lock: each worker owns a copy.

mod tunnels;

pub use tunnels::TunnelMatch;

use flow::program::{MAX_PORTS, PortId};
use rustc_hash::{FxHashMap, FxHashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tunnels::{Tunnels, v4, v6};
use wire::addr::MacAddr;
use wire::key::TUN_CSUM;
use wire::proto::IP_UDP;
use wire::tunnel::geneve::TlvMap;
use wire::tunnel::outer::{Outer, OuterError, Peek};
use wire::tunnel::udp4::{Udp4Outer, Udp4Tunnel, ipv4_word, mac_word, port_word};
use wire::tunnel::{Transport, TunnelFormat};

#[derive(Debug, Clone, PartialEq)]
struct Underlay {
    mac: MacAddr,
    addresses: Vec<IpAddr>,
    /// Multicast groups that it is a member of.
    groups: Vec<IpAddr>,
    /// The same as [`Udp4Outer`] has them; IPv4 ones only.
    mac_word: u64,
    v4_words: Vec<u32>,
}

/// A UDP port of the VTEP's, or an IP protocol, of both address families.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Socket {
    transport: Transport,
    /// The format that all its tunnels have.
    format: &'static TunnelFormat,
    /// The first of them.
    tunnel: PortId,
}

/// An answer of the tunnel table, with all that it was asked by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct TunnelCacheEntry {
    of: Udp4Tunnel,
    /// 0 for an empty entry: number 0 is no tunnel port's.
    tunnel: u16,
}

/// Sets of the tunnel cache: 250 tunnels nearly never find three of them in one set.
const SETS: usize = 1024;

/// A set of them: one cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(align(64))]
struct Set([TunnelCacheEntry; 2]);

/// The termination tables of one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Termination {
    /// Index into `underlays` plus one by port; 0 for a port of a bridge without addresses.
    by_port: Box<[u8]>,
    underlays: Vec<Underlay>,
    sockets: Vec<Socket>,
    /// Those whose format has a pattern, as [`socket_word`] has them.
    socket_words: Vec<u32>,
    v4: Tunnels<u32>,
    v6: Tunnels<u128>,
    /// In front of `v4`.
    cache: Box<[Set; SETS]>,
    /// Which Geneve options have fields, of the bridges of these ports; others have none.
    tlvs: FxHashMap<PortId, Arc<TlvMap>>,
    /// Ports that take packets over IPv6 with a UDP checksum of zero.
    zero_checksums: FxHashSet<PortId>,
    /// Ports that take no packets that came in fragments.
    no_reassembly: FxHashSet<PortId>,
}

impl Default for Termination {
    fn default() -> Self {
        Termination {
            by_port: vec![0; MAX_PORTS].into(),
            underlays: Vec::new(),
            sockets: Vec::new(),
            socket_words: Vec::new(),
            v4: Tunnels::default(),
            v6: Tunnels::default(),
            cache: Box::new(std::array::from_fn(|_| Set::default())),
            tlvs: FxHashMap::default(),
            zero_checksums: FxHashSet::default(),
            no_reassembly: FxHashSet::default(),
        }
    }
}

impl Termination {
    /// Bridges with addresses that one switch can have.
    pub const MAX_UNDERLAYS: usize = 255;

    /// Adds a bridge with addresses and its ports. Underlays beyond [`Self::MAX_UNDERLAYS`] are ignored.
    pub fn add_underlay(
        &mut self,
        mac: MacAddr,
        addresses: Vec<IpAddr>,
        ports: impl IntoIterator<Item = PortId>,
    ) {
        if self.underlays.len() == Self::MAX_UNDERLAYS {
            return;
        }
        let word = |ip: &IpAddr| if let IpAddr::V4(ip) = ip { Some(ipv4_word(*ip)) } else { None };
        let v4_words = addresses.iter().filter_map(word).collect();
        self.underlays.push(Underlay {
            mac,
            addresses,
            groups: Vec::new(),
            mac_word: mac_word(mac),
            v4_words,
        });
        for port in ports {
            self.by_port[port.index()] = self.underlays.len() as u8;
        }
    }

    /// Makes the underlay that was added last a member of multicast groups: it takes packets to them, too.
    pub fn join(&mut self, groups: impl IntoIterator<Item = IpAddr>) {
        if let Some(underlay) = self.underlays.last_mut() {
            underlay.groups.extend(groups);
        }
    }

    /// Adds a tunnel port whose packets have this format. One without addresses takes packets over IPv4 and IPv6.
    ///
    /// # Errors
    /// The port that takes the same packets already, or one with another format on the same UDP port: a packet
    /// does not say which tunnel type it is of.
    pub fn add_tunnel(
        &mut self,
        of: TunnelMatch,
        format: &'static TunnelFormat,
        port: PortId,
    ) -> Result<(), PortId> {
        let socket = self.sockets.iter().find(|socket| socket.transport == of.transport).copied();
        if let Some(other) = socket.filter(|socket| socket.format != format) {
            return Err(other.tunnel);
        }
        let (over_v4, over_v6) = (of.addresses(v4), of.addresses(v6));
        let taken = over_v4.and_then(|addresses| self.v4.get(&of, addresses));
        if let Some(other) = taken.or_else(|| self.v6.get(&of, over_v6?)) {
            return Err(other);
        }
        if let Some(addresses) = over_v4 {
            self.v4.insert(&of, addresses, port);
        }
        if let Some(addresses) = over_v6 {
            self.v6.insert(&of, addresses, port);
        }
        if socket.is_none() {
            self.sockets.push(Socket { transport: of.transport, format, tunnel: port });
            if let Some(pattern) = format.pattern {
                self.socket_words.push(socket_word(port_word(of.transport.port), pattern));
            }
        }
        Ok(())
    }

    /// Says which Geneve options have fields, of the packets of a tunnel port.
    pub fn set_tlvs(&mut self, port: PortId, tlvs: Arc<TlvMap>) {
        self.tlvs.insert(port, tlvs);
    }

    /// Lets a tunnel port take packets over IPv6 with a UDP checksum of zero.
    pub fn allow_zero_checksums(&mut self, port: PortId) {
        self.zero_checksums.insert(port);
    }

    /// Lets a tunnel port take no packets that came in fragments.
    pub fn refuse_reassembled(&mut self, port: PortId) {
        self.no_reassembly.insert(port);
    }

    /// Whether frames on `port` can be tunnel packets at all.
    #[inline(always)]
    pub fn is_underlay(&self, port: PortId) -> bool {
        self.by_port[port.index()] != 0
    }

    /// The tables as a burst from `port` needs them; `None` for a port of a bridge without addresses.
    #[inline(always)]
    pub fn view(&mut self, port: PortId) -> Option<TerminationView<'_>> {
        let underlay = self.underlays.get(usize::from(self.by_port[port.index()]).wrapping_sub(1))?;
        let socket_words: &[u32] = if underlay.v4_words.is_empty() { &[] } else { &self.socket_words };
        Some(TerminationView {
            mac: underlay.mac_word,
            address: underlay.v4_words.first().copied().unwrap_or(0),
            socket: socket_words.first().copied().unwrap_or(NO_SOCKET),
            underlay,
            socket_words,
            sockets: &self.sockets,
            v4: &self.v4,
            v6: &self.v6,
            cache: &mut self.cache,
            tlvs: &self.tlvs,
            zero_checksums: &self.zero_checksums,
            no_reassembly: &self.no_reassembly,
        })
    }
}

/// No socket.
const NO_SOCKET: u32 = u32::MAX;

/// A UDP port, as [`Udp4Outer`] has it, with the number of the pattern that tunnel headers there fit.
#[inline(always)]
const fn socket_word(port: u16, pattern: u8) -> u32 {
    port as u32 | (pattern as u32) << 16
}

/// The termination tables as one burst from one port needs them.
#[derive(Debug)]
pub struct TerminationView<'a> {
    mac: u64,
    /// The first address and the first socket: mostly the only ones. With [`NO_SOCKET`], all packets are unusual.
    address: u32,
    socket: u32,
    underlay: &'a Underlay,
    socket_words: &'a [u32],
    sockets: &'a [Socket],
    v4: &'a Tunnels<u32>,
    v6: &'a Tunnels<u128>,
    cache: &'a mut [Set; SETS],
    tlvs: &'a FxHashMap<PortId, Arc<TlvMap>>,
    zero_checksums: &'a FxHashSet<PortId>,
    no_reassembly: &'a FxHashSet<PortId>,
}

impl TerminationView<'_> {
    /// Whether a packet goes to one of our VTEP sockets, and the format of the tunnels there.
    #[inline]
    pub fn is_ours(&self, peek: &Peek) -> Option<&'static TunnelFormat> {
        let socket = self.sockets.iter().find(|socket| socket.transport == peek.transport)?;
        let is_own = || peek.dl_dst == self.underlay.mac && self.underlay.addresses.contains(&peek.dst);
        let is_joined =
            || self.underlay.groups.contains(&peek.dst) && peek.dl_dst == wire::view::group_mac(peek.dst);
        let ours = peek.vid.is_none_or(|vid| vid == 0) && (is_own() || is_joined());
        ours.then_some(socket.format)
    }

    /// [`TerminationView::is_ours`] for a packet that the fast path has read, and a socket whose tunnel headers fit the
    /// same pattern.
    #[inline(always)]
    pub fn takes(&self, outer: &Udp4Outer) -> bool {
        let address = (outer.addresses >> 32) as u32;
        let socket = socket_word(outer.port_and_vni as u16, outer.pattern);
        outer.dl_dst == self.mac
            && (address == self.address || self.underlay.v4_words.contains(&address))
            && (socket == self.socket || self.socket_words.contains(&socket))
    }

    /// Which Geneve options have fields, of the packets of a tunnel port.
    pub fn tlvs(&self, port: PortId) -> &TlvMap {
        self.tlvs.get(&port).map_or(&TlvMap::EMPTY, |tlvs| &**tlvs)
    }

    /// Whether any tunnel port takes packets over IPv6 with a UDP checksum of zero.
    pub fn any_zero_checksums(&self) -> bool {
        !self.zero_checksums.is_empty()
    }

    /// Whether any tunnel port takes no packets that came in fragments.
    pub fn refuses_some_reassembled(&self) -> bool {
        !self.no_reassembly.is_empty()
    }

    /// Whether a packet with these outer headers is for a port that takes none that came in fragments.
    #[cold]
    pub fn refuses_reassembled(&self, outer: &Outer) -> bool {
        let found = self.find(outer.id, outer.src, outer.dst, outer.transport);
        found.is_some_and(|port| self.no_reassembly.contains(&port))
    }

    /// The tunnel port that takes a packet with these outer headers, if there is one.
    ///
    /// # Errors
    /// It has no UDP checksum over IPv6, and its port does not take such.
    pub fn tunnel_of(&self, outer: &Outer) -> Result<Option<PortId>, OuterError> {
        let found = self.find(outer.id, outer.src, outer.dst, outer.transport);
        let is_unprotected =
            outer.dst.is_ipv6() && outer.transport.protocol == IP_UDP && outer.flags & TUN_CSUM == 0;
        if is_unprotected && !found.is_some_and(|port| self.zero_checksums.contains(&port)) {
            return Err(OuterError::UdpZeroChecksumV6);
        }
        Ok(found)
    }

    /// The tunnel port that takes a packet with this VNI or key from `remote` to `local`.
    #[inline(always)]
    pub fn find(&self, vni: u32, remote: IpAddr, local: IpAddr, transport: Transport) -> Option<PortId> {
        match (remote, local) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => self.find_v4(vni, remote, local, transport),
            (IpAddr::V6(remote), IpAddr::V6(local)) => {
                self.v6.find(vni, remote.into(), local.into(), transport)
            }
            _ => None,
        }
    }

    fn find_v4(&self, vni: u32, remote: Ipv4Addr, local: Ipv4Addr, transport: Transport) -> Option<PortId> {
        self.v4.find(vni, remote.into(), local.into(), transport)
    }

    /// [`TerminationView::find`] through the tunnel cache. Everything that tells tunnels apart is compared, so that no
    /// packet gets another one's answer.
    #[inline(always)]
    pub fn find_cached(&mut self, of: &Udp4Tunnel) -> Option<PortId> {
        let at = set(of);
        let [first, second] = &self.cache[at].0;
        if first.of == *of && first.tunnel != 0 {
            return Some(PortId(first.tunnel));
        }
        if second.of == *of && second.tunnel != 0 {
            return Some(PortId(second.tunnel));
        }
        self.fill(at, of)
    }

    /// Asks the table, and puts the answer in place of the older of the set's. That nobody takes a packet is not
    /// cached: who sends chooses the VNI, and would drive others out.
    #[cold]
    #[inline(never)]
    fn fill(&mut self, at: usize, of: &Udp4Tunnel) -> Option<PortId> {
        let found = self.find_v4(of.vni(), of.src(), of.dst(), Transport::udp(of.udp_dst()))?;
        let set = &mut self.cache[at].0;
        set[1] = set[0];
        set[0] = TunnelCacheEntry { of: *of, tunnel: found.0 };
        Some(found)
    }
}

/// The set of the tunnel cache for a tunnel.
#[inline(always)]
fn set(of: &Udp4Tunnel) -> usize {
    ((of.port_and_vni ^ of.addresses << 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % SETS
}

#[cfg(test)]
mod tests;
