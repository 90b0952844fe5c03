//! Capture files for `net_pcap`, in the classic format (`pcap-savefile(5)`).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `frames` in order, all with time stamp 0.
///
/// # Errors
/// What the file system says.
pub fn write<'a>(path: &Path, frames: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    // Magic of microsecond stamps, version 2.4, no time zone, no accuracy, snap length, Ethernet.
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let len = frame.len() as u32;
        for word in [0, 0, len, len] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(frame)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_header_and_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        write(&path, [&[1u8, 2, 3][..], &[4u8][..]]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 24 + 16 + 3 + 16 + 1);
        assert_eq!(bytes[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(bytes[24 + 8..24 + 19], [3, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3]);
    }
}
