//! Reading and writing captures in the classic pcap format: what net_pcap eats and leaves.

use std::fs;
use std::path::Path;

/// Little endian, microseconds.
const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
const SNAPLEN: u32 = 65_535;

/// Writes frames, a microsecond apart.
pub fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
    // Version 2.4, UTC, no accuracy.
    for value in [MAGIC, 4 << 16 | 2, 0, 0, SNAPLEN, ETHERNET] {
        word(&mut bytes, value);
    }
    for (at, frame) in frames.iter().enumerate() {
        for value in [0, at as u32, frame.len() as u32, frame.len() as u32] {
            word(&mut bytes, value);
        }
        bytes.extend(frame);
    }
    fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Reads the frames of a capture.
///
/// # Panics
/// When the file is not one, or ends within a frame: then it was not flushed.
pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4).unwrap_or_else(|| panic!("{}: cut off at {at}", path.display()));
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    assert!(matches!(word(0), MAGIC | 0xa1b2_3c4d), "{}: not a little endian capture", path.display());
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let (captured, original) = (word(at + 8) as usize, word(at + 12) as usize);
        assert_eq!(captured, original, "{}: a frame was captured in part", path.display());
        at += 16;
        frames.push(bytes.get(at..at + captured).expect("a whole frame").to_vec());
        at += captured;
    }
    frames
}
