//! Capture files: pcap, and pcapng where packets have comments.

use super::pcapng::{self, SNAPLEN};
use crate::slowpath::capture::{Captured, DroppedAt};
use std::time::UNIX_EPOCH;

/// A file that is being written.
#[derive(Debug)]
pub enum CaptureFile {
    /// With times in microseconds.
    Pcap,
    /// With a comment for each packet that was dropped.
    Pcapng(pcapng::Writer),
}

impl CaptureFile {
    /// Its media type.
    pub fn media_type(&self) -> &'static str {
        match self {
            CaptureFile::Pcap => "application/vnd.tcpdump.pcap",
            CaptureFile::Pcapng(_) => "application/x-pcapng",
        }
    }

    /// Its first bytes.
    pub fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            CaptureFile::Pcap => {
                out.extend(0xa1b2_c3d4u32.to_le_bytes());
                out.extend(2u16.to_le_bytes());
                out.extend(4u16.to_le_bytes());
                // UTC, no accuracy, Ethernet.
                for word in [0, 0, SNAPLEN, 1] {
                    out.extend(word.to_le_bytes());
                }
            }
            CaptureFile::Pcapng(_) => pcapng::Writer::head(&mut out),
        }
        out
    }

    /// Appends a packet.
    pub fn record(&mut self, out: &mut Vec<u8>, packet: &Captured) {
        let time = packet.timestamp.duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            CaptureFile::Pcap => {
                let captured = packet.bytes.len().min(SNAPLEN as usize);
                let words =
                    [time.as_secs() as u32, time.subsec_micros(), captured as u32, packet.length as u32];
                for word in words {
                    out.extend(word.to_le_bytes());
                }
                out.extend(&packet.bytes[..captured]);
            }
            CaptureFile::Pcapng(writer) => {
                let at = packet.dropped.as_deref();
                let port = at.and_then(|at| at.port.as_deref());
                let bridge = at.and_then(|at| at.bridge.as_deref());
                let description =
                    bridge.map_or_else(String::new, |bridge| format!("port of bridge {bridge}"));
                writer.packet(
                    out,
                    &pcapng::Packet {
                        interface: port.unwrap_or("no tunnel port"),
                        description: &description,
                        time,
                        outgoing: packet.outgoing,
                        length: packet.length,
                        bytes: &packet.bytes,
                        comment: &at.map_or_else(String::new, comment),
                    },
                );
            }
        }
    }
}

/// Why and where a packet was dropped, for a person.
fn comment(at: &DroppedAt) -> String {
    let (reason, description) = (at.reason.name(), at.reason.description());
    match (&at.port, &at.bridge) {
        (Some(port), Some(bridge)) => {
            format!("dropped: {reason} (port {port}, bridge {bridge}): {description}")
        }
        _ => format!("dropped: {reason}: {description}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::drop::DropReason;
    use flow::program::PortId;
    use std::time::Duration;

    fn packet() -> Captured {
        Captured {
            timestamp: UNIX_EPOCH + Duration::new(5, 7000),
            port: PortId(1),
            outgoing: false,
            length: 60,
            bytes: [9; 14][..].into(),
            sent_by: None,
            dropped: None,
        }
    }

    #[test]
    fn records_are_those_of_a_pcap_file() {
        let mut file = CaptureFile::Pcap;
        assert_eq!(file.head().len(), 24);
        let mut out = Vec::new();
        file.record(&mut out, &packet());
        assert_eq!(out[..16], [5, 0, 0, 0, 7, 0, 0, 0, 14, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(out.len(), 16 + 14);
    }

    #[test]
    fn comments_say_why_and_where() {
        let (port, bridge) = (Some("p0".to_owned()), Some("br0".to_owned()));
        let known = comment(&DroppedAt { reason: DropReason::NoMatch, port, bridge });
        assert_eq!(
            known,
            "dropped: no_match (port p0, bridge br0): no rule matched in a bridge with fail_mode=secure"
        );
        let reason = DropReason::TunnelUnknown;
        let unknown = comment(&DroppedAt { reason, port: None, bridge: None });
        assert!(unknown.starts_with("dropped: tunnel_unknown: no tunnel port takes"), "{unknown}");
    }
}
