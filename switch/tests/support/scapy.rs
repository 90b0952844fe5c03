//! Scapy as an oracle: frames as Python expressions, built by code that is not ours.

use std::io::Write;
use std::process::{Command, Stdio};

/// Reads one expression a line, writes one frame a line, in hexadecimal. `vxlan(inner, ...)` is a tunnel packet, its
/// inner frame given as hexadecimal or as a packet; `fix=False` leaves wrong lengths and checksums.
const PROGRAM: &str = r"
import sys, logging
logging.getLogger('scapy.runtime').setLevel(logging.ERROR)
from scapy.layers.l2 import Ether, Dot1Q, Dot1AD, ARP
from scapy.layers.inet import IP, TCP, UDP, ICMP, IPOption_NOP
from scapy.layers.inet6 import *
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

def h(text):
    return Raw(bytes.fromhex(text))

for line in sys.stdin:
    print(bytes(eval(line)).hex())
";

/// The frames that scapy builds from these expressions. Known names: `Ether`, `Dot1Q`, `Dot1AD`, `ARP`, `IP`, `IPv6`,
/// `TCP`, `UDP`, `ICMP`, `SCTP`, `VXLAN`, `Raw`, `IPOption_NOP`, those of scapy's inet6, and `h('...')` for bytes in
/// hexadecimal.
///
/// # Panics
/// When scapy is not there or an expression is wrong.
pub fn build<S: AsRef<str>>(expressions: &[S]) -> Vec<Vec<u8>> {
    // Debian's interpreter: one of pyenv's, first on PATH, has no scapy.
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 runs; scripts/setup installs it");
    let lines: String = expressions.iter().map(|e| e.as_ref().replace('\n', " ") + "\n").collect();
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // From another thread: scapy answers before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("python runs");
    writer.join().expect("writer").expect("scapy reads all expressions");
    assert!(output.status.success(), "scapy failed (python3-scapy installed?)");
    let frames: Vec<Vec<u8>> =
        String::from_utf8(output.stdout).expect("hexadecimal").lines().map(from_hex).collect();
    assert_eq!(frames.len(), expressions.len());
    frames
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}
