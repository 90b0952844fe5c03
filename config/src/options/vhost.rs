//! Options of a port of type `dpdkvhostuserclient`: a virtual machine by a socket that its hypervisor listens on.

use std::collections::BTreeMap;
use std::path::Path;

use super::{DpdkOptions, OptionError, Reader};

const KNOWN: [&str; 2] = ["vhost-server-path", "n_rxq"];
/// As many queues as the switch drives on one port.
const MAX_QUEUES: u64 = 64;
/// Bytes of a socket's path: `sun_path` less the NUL.
const MAX_PATH: usize = 107;
/// Characters of a port's name: DPDK's bound for a device, less what stands in front.
const MAX_NAME: usize = 48;

/// A vhost-user socket that the switch connects to, again and again until somebody listens, and again when the virtual
/// machine has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostOptions {
    /// `vhost-server-path`: the socket.
    pub path: String,
    /// `n_rxq`: pairs of queues that the virtual machine may use, 1 to 64. Default: 1.
    pub queues: u16,
}

impl VhostOptions {
    /// Reads a port's `options`; all errors at once.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &KNOWN);
        if !options.contains_key("vhost-server-path") {
            reader.missing(
                "vhost-server-path",
                "the path of the socket that the virtual machine's hypervisor makes",
            );
        }
        let path = reader.parse("vhost-server-path", path).unwrap_or_default();
        let queues = reader.number("n_rxq", 1, MAX_QUEUES).map_or(1, |n| n as u16);
        reader.finish(Self { path, queues })
    }

    /// What is wrong with the name of such a port, by which its device is named.
    pub fn name_error(port: &str) -> Option<String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        (port.len() > MAX_NAME || !port.chars().all(good)).then(|| {
            format!(
                "found {port:?}, expected {MAX_NAME} letters, digits, _, - and . at most: a port of type \
                 dpdkvhostuserclient is a DPDK device of this name"
            )
        })
    }

    /// The DPDK device of the port of this name.
    pub fn device(&self, port: &str) -> DpdkOptions {
        let Self { path, queues } = self;
        DpdkOptions {
            devargs: format!("net_vhost_{port},iface={path},client=1,queues={queues}"),
            n_rxq: Some(*queues),
            n_txq: Some(*queues),
            n_rxq_desc: None,
            n_txq_desc: None,
            gro: false,
        }
    }
}

fn path(text: &str) -> Result<String, String> {
    let unusable = |c: char| c == ',' || c.is_whitespace() || c.is_control();
    if !Path::new(text).is_absolute() || text.len() > MAX_PATH || text.contains(unusable) {
        return Err(format!(
            "found {text:?}, expected the absolute path of a socket, {MAX_PATH} bytes at most, without commas and spaces"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<VhostOptions, Vec<String>> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        VhostOptions::parse(&options).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_port_is_a_device_that_connects() {
        let options = parse(&[("vhost-server-path", "/run/vm1.sock"), ("n_rxq", "2")]).unwrap();
        let device = options.device("vm1");
        assert_eq!(device.devargs, "net_vhost_vm1,iface=/run/vm1.sock,client=1,queues=2");
        assert_eq!((device.n_rxq, device.n_txq, device.device()), (Some(2), Some(2), "net_vhost_vm1"));
        assert_eq!(parse(&[("vhost-server-path", "/s")]).unwrap().queues, 1);
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        assert!(parse(&[]).unwrap_err()[0].starts_with("vhost-server-path: missing"));
        let long = format!("/{}", "x".repeat(MAX_PATH));
        for bad in ["", "vm1.sock", "/run/a,client=0", "/run/a b", &long] {
            let errors = parse(&[("vhost-server-path", bad)]).unwrap_err();
            assert!(errors[0].contains("absolute path"), "{errors:?}");
        }
        assert!(parse(&[("vhost-server-path", "/s"), ("n_rxq", "65")]).is_err());
        assert!(parse(&[("vhost-server-path", "/s"), ("vhost-path", "x")]).is_err());
        assert_eq!(VhostOptions::name_error("vm-1.a_b"), None);
        for bad in ["a,b", "a b", &"x".repeat(MAX_NAME + 1)] {
            assert!(VhostOptions::name_error(bad).is_some());
        }
    }
}
