//! Options of a port of type `dpdk`.

use std::collections::BTreeMap;

use super::{OptionError, Reader, number_in};
use wire::addr::MacAddr;

/// Open vSwitch's words for a device that EAL knows already, found by its address.
const BY_MAC: &str = "class=eth,mac=";
const KNOWN: [&str; 6] = ["dpdk-devargs", "n_rxq", "n_txq", "n_rxq_desc", "n_txq_desc", "gro"];
/// As many queues as the switch drives on one port.
const MAX_QUEUES: u64 = 64;
/// Device arguments of virtual devices that say how many queues are made. Making them takes time and memory before anybody
/// can refuse them.
const QUEUE_ARGUMENTS: [&str; 3] = ["qpairs", "queue_count", "queues"];
/// DPDK rings and OVS agree on this as the useful maximum; drivers may want less.
const MAX_DESCRIPTORS: u64 = 32_768;

/// A DPDK device, named and sized as in OVS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DpdkOptions {
    /// `dpdk-devargs`: `net_tap0,iface=tap0`, `0000:01:00.0`, or `class=eth,mac=00:11:22:33:44:55`.
    pub devargs: String,
    /// `n_rxq`: RX queues, 1 to 64. `None`: as the switch sees fit for its workers.
    pub n_rxq: Option<u16>,
    /// `n_txq`: TX queues, 1 to 64. `None`: as the switch sees fit for its workers.
    pub n_txq: Option<u16>,
    /// `n_rxq_desc`: descriptors of an RX queue, a power of two. `None`: `[dpdk] rxd`.
    pub n_rxq_desc: Option<u16>,
    /// `n_txq_desc`: descriptors of a TX queue, a power of two. `None`: `[dpdk] txd`.
    pub n_txq_desc: Option<u16>,
    /// `gro` (ours): TCP segments that are received in one burst are coalesced. Default false.
    pub gro: bool,
}

impl DpdkOptions {
    /// Reads a port's `options`; all errors at once.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &KNOWN);
        if !options.contains_key("dpdk-devargs") {
            reader
                .missing("dpdk-devargs", "a DPDK device such as \"net_tap0,iface=tap0\" or \"0000:01:00.0\"");
        }
        let devargs = reader.parse("dpdk-devargs", devargs).unwrap_or_default();
        let n_rxq = reader.number("n_rxq", 1, MAX_QUEUES);
        let n_txq = reader.number("n_txq", 1, MAX_QUEUES);
        let n_rxq_desc = reader.parse("n_rxq_desc", descriptors);
        let n_txq_desc = reader.parse("n_txq_desc", descriptors);
        let gro = reader.boolean("gro").unwrap_or(false);
        reader.finish(Self {
            devargs,
            n_rxq: n_rxq.map(|n| n as u16),
            n_txq: n_txq.map(|n| n as u16),
            n_rxq_desc: n_rxq_desc.map(|n| n as u16),
            n_txq_desc: n_txq_desc.map(|n| n as u16),
            gro,
        })
    }

    /// The address by which the device is to be found among those that EAL has: `class=eth,mac=`.
    pub fn by_mac(&self) -> Option<MacAddr> {
        self.devargs.strip_prefix(BY_MAC)?.parse().ok()
    }

    /// Bytes of the frames that a `net_null` device makes up (`size=`, default 64), if it is one. A number that cannot be
    /// read is the largest.
    pub fn null_frames(&self) -> Option<u64> {
        self.device().starts_with("net_null").then_some(())?;
        let size = self.devargs.split(',').skip(1).filter_map(|arg| arg.strip_prefix("size=")).last();
        let Some(text) = size else { return Some(64) };
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        Some(number.unwrap_or(u64::MAX))
    }

    /// The kernel's interface that a `net_tap` device makes, if it says so.
    pub fn tap(&self) -> Option<&str> {
        self.interface(&["net_tap"])
    }

    /// The kernel's interface that a device reads and writes.
    pub fn kernel_interface(&self) -> Option<&str> {
        self.interface(&["net_af_packet", "net_af_xdp"])
    }

    fn interface(&self, drivers: &[&str]) -> Option<&str> {
        drivers.iter().any(|driver| self.device().starts_with(driver)).then_some(())?;
        self.devargs.split(',').skip(1).filter_map(|arg| arg.strip_prefix("iface=")).last()
    }

    /// The device's name: what stands before the first comma.
    pub fn device(&self) -> &str {
        self.devargs.split(',').next().unwrap_or_default()
    }
}

/// Drivers that work on a kernel interface, or a socket, and have no default for it.
const ON_AN_INTERFACE: [&str; 3] = ["net_af_packet", "net_af_xdp", "net_vhost"];

fn devargs(text: &str) -> Result<String, String> {
    let device = text.split(',').next().unwrap_or_default();
    if let Some(mac) = text.strip_prefix(BY_MAC) {
        let good = mac.parse::<MacAddr>();
        return good.map(|_| text.to_owned()).map_err(|_| {
            format!("found {text:?}, expected a MAC address such as {BY_MAC}00:11:22:33:44:55 after {BY_MAC}")
        });
    }
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@');
    if device.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "found {text:?}, expected a device name and, after commas, its arguments, without spaces"
        ));
    }
    if !device.chars().all(in_name) {
        return Err(format!(
            "found {text:?}, expected the name of a device first, such as 0000:01:00.0 or net_tap0, or {BY_MAC} and a MAC \
             address"
        ));
    }
    let says = |name: &str| text.split(',').skip(1).any(|argument| argument.starts_with(name));
    if ON_AN_INTERFACE.iter().any(|driver| device.starts_with(driver)) && !says("iface=") {
        return Err(format!("found {text:?}, expected {device},iface=INTERFACE: the interface to work on"));
    }
    for (name, value) in text.split(',').skip(1).filter_map(|argument| argument.split_once('=')) {
        if QUEUE_ARGUMENTS.contains(&name) {
            number_in(value, 1, MAX_QUEUES).map_err(|_| {
                format!("found {name}={value}, expected a number of queues from 1 to {MAX_QUEUES}")
            })?;
        }
    }
    Ok(text.to_owned())
}

/// The number of descriptors of a ring.
fn descriptors(text: &str) -> Result<u64, String> {
    number_in(text, 32, MAX_DESCRIPTORS)
        .ok()
        .filter(|n| n.is_power_of_two())
        .ok_or_else(|| format!("found {text:?}, expected a power of two from 32 to {MAX_DESCRIPTORS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<DpdkOptions, Vec<String>> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        DpdkOptions::parse(&options).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn frames_of_a_null_device() {
        let frames = |devargs| parse(&[("dpdk-devargs", devargs)]).unwrap().null_frames();
        assert_eq!(frames("net_null0"), Some(64));
        assert_eq!(frames("net_null0,no-rx=1,size=0x100,copy=1"), Some(256));
        assert_eq!(frames("net_null0,size=9,size=65536"), Some(65536), "the last one holds");
        assert_eq!(frames("net_null0,size=many"), Some(u64::MAX));
        assert_eq!(frames("net_ring0,size=65536"), None);
    }

    #[test]
    fn good() {
        let options =
            parse(&[("dpdk-devargs", "net_tap0,iface=tap0"), ("n_rxq", "2"), ("n_rxq_desc", "512")]).unwrap();
        assert_eq!(options.device(), "net_tap0");
        assert_eq!((options.n_rxq, options.n_txq, options.n_rxq_desc), (Some(2), None, Some(512)));
    }

    #[test]
    fn a_device_by_its_address() {
        let options = parse(&[("dpdk-devargs", "class=eth,mac=00:11:22:33:44:55")]).unwrap();
        assert_eq!(options.by_mac(), Some(MacAddr([0, 0x11, 0x22, 0x33, 0x44, 0x55])));
        assert_eq!(parse(&[("dpdk-devargs", "net_tap0,mac=00:11:22:33:44:55")]).unwrap().by_mac(), None);
        for bad in
            ["class=eth", "class=eth,mac=", "class=eth,mac=1", "bus=pci,addr=0:0:0", "net_null0/class=eth"]
        {
            let errors = parse(&[("dpdk-devargs", bad)]).unwrap_err();
            assert!(errors[0].contains(bad) && errors[0].contains("expected"), "{errors:?}");
        }
    }

    #[test]
    fn queues_of_virtual_devices_are_bounded() {
        for good in
            ["net_af_packet0,iface=eth0,qpairs=64", "net_vhost0,iface=/s,queues=2", "net_ring0,other=99999"]
        {
            assert!(parse(&[("dpdk-devargs", good)]).is_ok(), "{good}");
        }
        for bad in [
            "net_af_packet0,iface=eth0,qpairs=99999",
            "net_vhost0,iface=/s,queues=0",
            "net_af_xdp0,iface=x,queue_count=-1",
        ] {
            let errors = parse(&[("dpdk-devargs", bad)]).unwrap_err();
            assert!(errors[0].contains("from 1 to 64"), "{errors:?}");
        }
    }

    #[test]
    fn devices_on_an_interface_name_it() {
        for bad in ["net_af_packet0", "net_af_xdp0,start_queue=0", "net_vhost0,client=1"] {
            let errors = parse(&[("dpdk-devargs", bad)]).unwrap_err();
            assert!(errors[0].contains("0,iface=INTERFACE"), "{errors:?}");
        }
    }

    #[test]
    fn every_error_at_once() {
        let errors = parse(&[("n_rxq", "0"), ("n_txq_desc", "1000"), ("n_rx", "1")]).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(
            errors[0].starts_with("n_rx: unknown option; did you mean n_rxq? Expected dpdk-devargs, "),
            "{errors:?}"
        );
        assert!(errors[1].starts_with("dpdk-devargs: missing"), "{errors:?}");
        assert_eq!(errors[2], "n_rxq: found \"0\", expected a number from 1 to 64");
        assert_eq!(errors[3], "n_txq_desc: found \"1000\", expected a power of two from 32 to 32768");
        assert!(parse(&[("dpdk-devargs", ",iface=x")]).is_err());
        assert!(parse(&[("dpdk-devargs", "net_tap0 iface=x")]).is_err());
    }
}
