//! Packet filters in the words of tcpdump (pcap-filter(7)), compiled to BPF and run by libpcap.

use dpdk_sys as sys;
use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::NonNull;

/// Longest packet that an expression may accept: any.
const SNAPLEN: i32 = 262_144;

/// A compiled filter for Ethernet frames.
pub struct PacketFilter {
    program: sys::bpf_program,
}

// SAFETY: the instructions are this object's own memory, not tied to a thread.
unsafe impl Send for PacketFilter {}
// SAFETY: after compilation they are only read.
unsafe impl Sync for PacketFilter {}

impl fmt::Debug for PacketFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketFilter({} instructions)", self.program.bf_len)
    }
}

/// libpcap's description of the link that a filter is compiled for.
struct Link(NonNull<sys::pcap>);

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: it was opened in `PacketFilter::compile`, and nothing points into it.
        unsafe { sys::pcap_close(self.0.as_ptr()) };
    }
}

impl PacketFilter {
    /// Compiles an expression; an empty one takes every packet. Takes long where names of hosts are to be looked up.
    ///
    /// # Errors
    /// libpcap's own words.
    pub fn compile(expression: &str) -> Result<PacketFilter, String> {
        let text = CString::new(expression).map_err(|_| "it has a NUL character".to_owned())?;
        // SAFETY: makes an object of libpcap's; needs nothing.
        let link = NonNull::new(unsafe { sys::pcap_open_dead(sys::DLT_EN10MB as i32, SNAPLEN) });
        let link = Link(link.ok_or_else(|| "libpcap has no memory".to_owned())?);
        let mut program = sys::bpf_program { bf_len: 0, bf_insns: std::ptr::null_mut() };
        // SAFETY: `link` is open, `program` is written on success only, `text` is NUL-terminated. Since version 1.8
        // libpcap keeps nothing of a compilation in static memory.
        let code = unsafe {
            sys::pcap_compile(link.0.as_ptr(), &raw mut program, text.as_ptr(), 1, sys::PCAP_NETMASK_UNKNOWN)
        };
        if code != 0 {
            // SAFETY: `link` is open; its error is a NUL-terminated string that is copied before it is closed.
            let error = unsafe { CStr::from_ptr(sys::pcap_geterr(link.0.as_ptr())) };
            return Err(error.to_string_lossy().into_owned());
        }
        Ok(PacketFilter { program })
    }

    /// Whether a packet of `wire_len` bytes is one that the filter takes; `bytes` are its first ones, or all.
    pub fn matches(&self, bytes: &[u8], wire_len: usize) -> bool {
        let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let header = sys::pcap_pkthdr {
            caplen: length(bytes.len()),
            len: length(wire_len.max(bytes.len())),
            ..sys::pcap_pkthdr::default()
        };
        // SAFETY: the program was compiled, and the interpreter reads no more than the `caplen` bytes that are there.
        unsafe { sys::pcap_offline_filter(&raw const self.program, &raw const header, bytes.as_ptr()) != 0 }
    }
}

impl Drop for PacketFilter {
    fn drop(&mut self) {
        // SAFETY: compiled once, freed once.
        unsafe { sys::pcap_freecode(&raw mut self.program) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// UDP from 10.0.0.1 port 7 to 10.0.0.2 port 9.
    fn frame() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        frame
    }

    fn takes(expression: &str, frame: &[u8], len: usize) -> bool {
        PacketFilter::compile(expression).unwrap().matches(frame, len)
    }

    #[test]
    fn expressions_are_tcpdumps() {
        let frame = frame();
        for (expression, expected) in [
            ("", true),
            ("udp and dst port 9", true),
            ("udp port 10", false),
            ("host 10.0.0.1 and not icmp", true),
            ("ether src 02:00:00:00:00:01", true),
            ("vlan 5", false),
            ("ip[8] = 64", true),
            ("greater 100", false),
        ] {
            assert_eq!(takes(expression, &frame, frame.len()), expected, "{expression}");
        }
        assert!(takes("greater 100", &frame, 1500), "of a packet that is not all there the length counts");
        assert!(!takes("udp port 9", &frame[..20], 42), "what is not there does not match");
    }

    #[test]
    fn errors_are_libpcaps() {
        for (expression, expected) in
            [("udp prt 9", "syntax error"), ("port 99999", "99999"), ("icmp\0", "NUL")]
        {
            let error = PacketFilter::compile(expression).unwrap_err();
            assert!(error.contains(expected), "{expression:?}: {error}");
        }
    }

    proptest! {
        /// Neither what is typed nor what comes by a port makes libpcap read what is not there.
        #[test]
        fn any_expression_and_packet_will_do(
            words in prop::collection::vec(prop::sample::select(vec![
                "udp", "tcp", "port", "and", "or", "not", "(", ")", "9", "10.0.0.0/8", "net", "vlan", "ip[6:2]", "&", "=",
                "ether", "host", "02:00:00:00:00:01", "len", "-", "<", "proto", "\\icmp", "[", "mpls", "geneve",
            ]), 0..8),
            frame in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(filter) = PacketFilter::compile(&words.join(" ")) {
                filter.matches(&frame, frame.len());
            }
        }
    }
}
