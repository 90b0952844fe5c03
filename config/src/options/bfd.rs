//! A port's `bfd` settings, as OVS users write them (`ovs-vswitchd.conf.db(5)`, table Interface).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{OptionError, Reader};
use wire::addr::MacAddr;

/// Keys of `bfd`.
const KNOWN: [&str; 14] = [
    "enable",
    "min_rx",
    "min_tx",
    "decay_min_rx",
    "forwarding_if_rx",
    "cpath_down",
    "check_tnl_key",
    "bfd_local_src_mac",
    "bfd_local_dst_mac",
    "bfd_remote_dst_mac",
    "bfd_src_ip",
    "bfd_dst_ip",
    "oam",
    "mult",
];
/// Milliseconds of an interval, at least and at most.
const INTERVAL: (u64, u64) = (1, 600_000);

/// A port's BFD session. Intervals are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BfdOptions {
    /// `min_rx`: shortest interval in which the port takes control packets. Default 1000.
    pub min_rx: u32,
    /// `min_tx`: shortest interval in which it sends them. Default 100.
    pub min_tx: u32,
    /// `decay_min_rx`: what holds instead of `min_rx` while no data comes in; 0, the default: the same.
    pub decay_min_rx: u32,
    /// `forwarding_if_rx`: data that comes in is as good as a session that is up. Default false.
    pub forwarding_if_rx: bool,
    /// `cpath_down`: tell the other side that something behind us is down. Default false.
    pub cpath_down: bool,
    /// `check_tnl_key`: only packets with tunnel key 0 are BFD's. Default false.
    pub check_tnl_key: bool,
    /// `bfd_local_src_mac`: Ethernet source. Default: the bridge's.
    pub local_src_mac: Option<MacAddr>,
    /// `bfd_local_dst_mac`: Ethernet destination. Default 00:23:20:00:00:01.
    pub local_dst_mac: MacAddr,
    /// `bfd_remote_dst_mac`: only packets to this address are BFD's. Default: to any.
    pub remote_dst_mac: Option<MacAddr>,
    /// `bfd_src_ip`: default 169.254.1.1.
    pub src_ip: Ipv4Addr,
    /// `bfd_dst_ip`: default 169.254.1.0.
    pub dst_ip: Ipv4Addr,
    /// `oam`: set the OAM bit of tunnel headers that have one. Default false.
    pub oam: bool,
    /// `mult`: so many intervals without a packet mean that the path is down. Default 3.
    pub mult: u8,
}

impl BfdOptions {
    /// Reads the column; `None` unless it says `enable=true`.
    pub fn parse(bfd: &BTreeMap<String, String>) -> Result<Option<Self>, Vec<OptionError>> {
        let mut reader = Reader::new(bfd, &KNOWN);
        let is_enabled = reader.boolean("enable").unwrap_or(false);
        let mut interval = |key, low| reader.number(key, low, INTERVAL.1).map(|ms| ms as u32);
        let min_rx = interval("min_rx", INTERVAL.0).unwrap_or(1000);
        let min_tx = interval("min_tx", INTERVAL.0).unwrap_or(100);
        let decay_min_rx = interval("decay_min_rx", 0).unwrap_or(0);
        if decay_min_rx != 0 && decay_min_rx < min_rx {
            let message = format!("found {decay_min_rx}, expected 0 or a number from min_rx ({min_rx}) on");
            reader.error("decay_min_rx", message);
        }
        let mut mac = |key, groups| reader.parse(key, |text| station(text, groups));
        let local_src_mac = mac("bfd_local_src_mac", false);
        let local_dst_mac = mac("bfd_local_dst_mac", true);
        let remote_dst_mac = mac("bfd_remote_dst_mac", true);
        let mut ip = |key| {
            reader.parse(key, |text| {
                text.parse::<Ipv4Addr>().map_err(|_| format!("found {text:?}, expected an IPv4 address"))
            })
        };
        let options = Self {
            min_rx,
            min_tx,
            decay_min_rx,
            local_src_mac,
            local_dst_mac: local_dst_mac.unwrap_or(MacAddr([0, 0x23, 0x20, 0, 0, 1])),
            remote_dst_mac,
            src_ip: ip("bfd_src_ip").unwrap_or(Ipv4Addr::new(169, 254, 1, 1)),
            dst_ip: ip("bfd_dst_ip").unwrap_or(Ipv4Addr::new(169, 254, 1, 0)),
            forwarding_if_rx: reader.boolean("forwarding_if_rx").unwrap_or(false),
            cpath_down: reader.boolean("cpath_down").unwrap_or(false),
            check_tnl_key: reader.boolean("check_tnl_key").unwrap_or(false),
            oam: reader.boolean("oam").unwrap_or(false),
            mult: reader.number("mult", 1, 255).map_or(3, |mult| mult as u8),
        };
        reader.finish(is_enabled.then_some(options))
    }
}

/// A MAC address that is not all zeros, and a group's only if those are meant.
fn station(text: &str, groups: bool) -> Result<MacAddr, String> {
    match text.parse::<MacAddr>() {
        Ok(mac) if !mac.is_zero() && (groups || !mac.is_multicast()) => Ok(mac),
        _ => Err(format!("found {text:?}, expected a MAC address such as 02:00:00:00:0a:01")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Option<BfdOptions>, Vec<OptionError>> {
        BfdOptions::parse(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn defaults_are_those_of_open_vswitch() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&[("enable", "false"), ("min_rx", "50")]), Ok(None));
        let options = parse(&[("enable", "true")]).unwrap().unwrap();
        assert_eq!((options.min_rx, options.min_tx, options.decay_min_rx, options.mult), (1000, 100, 0, 3));
        assert_eq!((options.local_src_mac, options.remote_dst_mac), (None, None));
        assert_eq!(options.local_dst_mac.to_string(), "00:23:20:00:00:01");
        assert_eq!((options.src_ip.to_string(), options.dst_ip.to_string()).0, "169.254.1.1");
        assert!(!options.check_tnl_key && !options.forwarding_if_rx && !options.cpath_down && !options.oam);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value) in [
            ("enable", "yes"),
            ("min_rx", "0"),
            ("min_tx", "fast"),
            ("decay_min_rx", "999"),
            ("mult", "256"),
            ("bfd_local_src_mac", "01:00:5e:00:00:01"),
            ("bfd_remote_dst_mac", "00:00:00:00:00:00"),
            ("bfd_src_ip", "::1"),
            ("minrx", "100"),
        ] {
            let errors = parse(&[(key, value)]).expect_err(key);
            assert_eq!(errors.len(), 1, "{key}={value}: {errors:?}");
            assert_eq!(errors[0].option, key);
        }
        let all = parse(&[("enable", "true"), ("decay_min_rx", "2000"), ("mult", "5"), ("oam", "true")]);
        let all = all.unwrap().unwrap();
        assert_eq!((all.decay_min_rx, all.mult, all.oam), (2000, 5, true));
    }
}
