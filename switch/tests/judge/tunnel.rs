//! The fields of a tunnel packet that its sender is free to choose.

/// Replaces the UDP source port and the IP identification by 0, and with them what follows from them. Checksums must have been right, and are zero afterwards; one that was not sent stays so.
pub fn mask(frame: &mut [u8], lowest_source_port: u16) -> Result<(), String> {
    let mut at = 12;
    while matches!(word(frame, at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let ip = at + 2;
    let (udp, pseudo) = match word(frame, at)? {
        // GRE: its checksum does not look at what is free to choose.
        0x0800 if byte(frame, ip + 9)? == 47 => {
            if sum(&frame[ip..ip + 20]) != 0xffff {
                return Err("wrong outer IP checksum".to_owned());
            }
            frame[ip + 4..ip + 6].fill(0);
            frame[ip + 10..ip + 12].fill(0);
            return Ok(());
        }
        0x0800 if byte(frame, ip + 9)? == 17 => {
            let udp = ip + usize::from(byte(frame, ip)? & 15) * 4;
            if sum(&frame[ip..udp]) != 0xffff {
                return Err("wrong outer IP checksum".to_owned());
            }
            frame[ip + 4..ip + 6].fill(0);
            frame[ip + 10..ip + 12].fill(0);
            (udp, frame[ip + 12..ip + 20].to_vec())
        }
        0x86dd if byte(frame, ip + 6)? == 17 => (ip + 40, frame[ip + 8..ip + 40].to_vec()),
        _ => return Ok(()),
    };
    let port = word(frame, udp)?;
    if port < lowest_source_port {
        return Err(format!("UDP source port {port}, expected {lowest_source_port} or more"));
    }
    let length = usize::from(word(frame, udp + 4)?);
    let datagram = frame.get(udp..udp + length).ok_or("UDP length beyond the frame")?;
    if word(frame, udp + 6)? != 0 {
        let mut all = pseudo;
        all.extend([0, 17]);
        all.extend((length as u16).to_be_bytes());
        all.extend(datagram);
        if sum(&all) != 0xffff {
            return Err("wrong outer UDP checksum".to_owned());
        }
        frame[udp + 6..udp + 8].copy_from_slice(&[0xff, 0xff]);
    }
    frame[udp..udp + 2].fill(0);
    Ok(())
}

fn byte(frame: &[u8], at: usize) -> Result<u8, String> {
    frame.get(at).copied().ok_or_else(|| "a cut off frame".to_owned())
}

fn word(frame: &[u8], at: usize) -> Result<u16, String> {
    Ok(u16::from_be_bytes([byte(frame, at)?, byte(frame, at + 1)?]))
}

/// The ones' complement sum of RFC 1071; 0xffff over bytes with a right checksum in them.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
