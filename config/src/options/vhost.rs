//! Options of ports of types `dpdkvhostuserclient` and `dpdkvhostuser`: a virtual machine by a socket that its hypervisor makes, or
//! that the switch makes.

use std::collections::BTreeMap;
use std::path::Path;

use super::{OptionError, Reader};

/// Options of a port whose socket the switch makes; the other one has the first, too.
const KNOWN: [&str; 5] = ["vhost-server-path", "n_rxq", "tx-retries-max", "offloads", "gro"];
/// As many queues as the switch drives on one port.
const MAX_QUEUES: u64 = 64;
/// Bytes of a socket's path: `sun_path` less the NUL.
const MAX_PATH: usize = 107;
/// `tx-retries-max`, as in Open vSwitch.
const MAX_RETRIES: u64 = 32;
const DEFAULT_RETRIES: u64 = 8;

/// A virtual machine by vhost-user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostOptions {
    /// `vhost-server-path`: the socket that the hypervisor makes, and the switch connects to, again and again until somebody
    /// listens, and again when the virtual machine has gone. `None`: the switch makes the socket, named as the port.
    pub path: Option<String>,
    /// `n_rxq`: pairs of queues of the port, 1 to 64, whatever the virtual machine uses. Default: 1.
    pub queues: u16,
    /// `tx-retries-max`: how often packets for which the virtual machine has no room are offered again, 0 to 32. Default: 8.
    pub tx_retries_max: u32,
    /// `offloads`: checksums and segmentation are offered to the virtual machine. Default: true.
    pub offloads: bool,
    /// `gro` (ours): TCP segments that are received in one burst are coalesced. Default: false.
    pub gro: bool,
}

impl VhostOptions {
    /// Reads the `options` of a port of type `dpdkvhostuserclient`; all errors at once.
    pub fn parse_client(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &KNOWN);
        if !options.contains_key("vhost-server-path") {
            reader.missing(
                "vhost-server-path",
                "the path of the socket that the virtual machine's hypervisor makes",
            );
        }
        let path = reader.parse("vhost-server-path", path);
        Self::rest(reader, Some(path.unwrap_or_default()))
    }

    /// Reads the `options` of a port of type `dpdkvhostuser`; all errors at once.
    pub fn parse_server(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        Self::rest(Reader::new(options, &KNOWN[1..]), None)
    }

    fn rest(mut reader: Reader<'_>, path: Option<String>) -> Result<Self, Vec<OptionError>> {
        let queues = reader.number("n_rxq", 1, MAX_QUEUES).unwrap_or(1) as u16;
        let retries = reader.number("tx-retries-max", 0, MAX_RETRIES).unwrap_or(DEFAULT_RETRIES);
        let offloads = reader.boolean("offloads").unwrap_or(true);
        let gro = reader.boolean("gro").unwrap_or(false);
        reader.finish(Self { path, queues, tx_retries_max: retries as u32, offloads, gro })
    }

    /// What is wrong with the name of a port whose socket is named as itself.
    pub fn name_error(port: &str) -> Option<String> {
        let bad = port.contains('/') || matches!(port, "." | "..") || port.chars().any(char::is_control);
        bad.then(|| {
            format!("found {port:?}, expected no /: a port of type dpdkvhostuser is a socket of this name")
        })
    }
}

/// What is wrong with a directory of sockets (`vhost-sock-dir`), which lies in the run directory.
pub(crate) fn directory(text: &str) -> Result<(), String> {
    let leads_out = text.split('/').any(|part| part == "..");
    if Path::new(text).is_absolute() || leads_out || text.len() > MAX_PATH {
        return Err(format!("found {text:?}, expected a directory in the run directory, without .."));
    }
    Ok(())
}

fn path(text: &str) -> Result<String, String> {
    let unusable = |c: char| c.is_whitespace() || c.is_control();
    if !Path::new(text).is_absolute() || text.len() > MAX_PATH || text.contains(unusable) {
        return Err(format!(
            "found {text:?}, expected the absolute path of a socket, {MAX_PATH} bytes at most, without spaces"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn client(options: &[(&str, &str)]) -> Result<VhostOptions, Vec<String>> {
        VhostOptions::parse_client(&map(options))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_option_but_the_socket_has_a_default() {
        let socket = ("vhost-server-path", "/run/vm1.sock");
        let usual = VhostOptions {
            path: Some("/run/vm1.sock".into()),
            queues: 1,
            tx_retries_max: 8,
            offloads: true,
            gro: false,
        };
        assert_eq!(client(&[socket]), Ok(usual.clone()));
        assert_eq!(
            client(&[
                socket,
                ("n_rxq", "2"),
                ("tx-retries-max", "0"),
                ("offloads", "false"),
                ("gro", "true")
            ]),
            Ok(VhostOptions { queues: 2, tx_retries_max: 0, offloads: false, gro: true, ..usual.clone() })
        );
        assert_eq!(VhostOptions::parse_server(&map(&[])), Ok(VhostOptions { path: None, ..usual }));
        assert!(VhostOptions::parse_server(&map(&[socket])).is_err());
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        assert!(client(&[]).unwrap_err()[0].starts_with("vhost-server-path: missing"));
        let long = format!("/{}", "x".repeat(MAX_PATH));
        for bad in ["", "vm1.sock", "/run/a b", &long] {
            let errors = client(&[("vhost-server-path", bad)]).unwrap_err();
            assert!(errors[0].contains("absolute path"), "{errors:?}");
        }
        for bad in [("n_rxq", "65"), ("n_rxq", "0"), ("tx-retries-max", "33"), ("vhost-path", "x")] {
            assert!(client(&[("vhost-server-path", "/s"), bad]).is_err(), "{bad:?}");
        }
        assert_eq!(VhostOptions::name_error("vm-1.a_b"), None);
        for bad in ["a/b", "..", "a\n"] {
            assert!(VhostOptions::name_error(bad).is_some());
        }
        assert_eq!(directory("sockets/vm"), Ok(()));
        for bad in ["/run", "../x", "a/../.."] {
            assert!(directory(bad).is_err());
        }
    }
}
