//! `bond/hash`: where a bond in mode `balance-slb` puts a MAC address and VLAN, as Open vSwitch counts it without the CRC
//! instructions of a CPU.

/// Buckets of a bond.
const BUCKETS: u32 = 256;

/// `mac [vlan] [basis]`.
pub(super) fn run(words: &[&str]) -> Result<String, String> {
    let mac = words.first().and_then(|text| mac(text)).ok_or("invalid mac")?;
    let vlan = words.get(1).map_or(Some(0), |text| number(text)).ok_or("invalid vlan")?;
    let basis = words.get(2).map_or(Some(0), |text| number(text)).ok_or("invalid basis")?;
    Ok(hash(mac, vlan as u16, basis).to_string())
}

/// Six hexadecimal bytes; what follows is not looked at, as by the `scanf` of Open vSwitch.
fn mac(text: &str) -> Option<u64> {
    let bytes = text.trim_start().split(':').take(6);
    let bytes: Vec<u64> =
        bytes.map(|byte| u8::from_str_radix(byte, 16).ok().map(u64::from)).collect::<Option<_>>()?;
    (bytes.len() == 6).then(|| bytes.iter().fold(0, |mac, byte| mac << 8 | byte))
}

/// A number in front of anything, of which the lower 32 bits count.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_start();
    let (minus, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let number: u64 = digits[..end].parse().ok()?;
    let number = number as u32;
    Some(if minus { number.wrapping_neg() } else { number })
}

fn hash(mac: u64, vlan: u16, basis: u32) -> u32 {
    let data = u64::from(vlan) << 48 | mac;
    finish(add(add(basis, data as u32), (data >> 32) as u32) ^ 8) % BUCKETS
}

/// A word of MurmurHash3.
fn add(hash: u32, data: u32) -> u32 {
    let data = data.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ data).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finish(hash: u32) -> u32 {
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn hashes_are_those_of_open_vswitch() {
        for (words, expected) in [
            (&["02:00:00:00:00:01"][..], "38"),
            (&["02:00:00:00:00:01", "5"], "37"),
            (&["02:00:00:00:00:01", "5", "7"], "18"),
            (&["02:00:00:00:00:01", "-1"], "35"),
            (&["02:00:00:00:00:01", "4294967296"], "38"),
            (&["02:00:00:00:00:01", "5", "-1"], "142"),
            (&["1:2:3:4:5:6"], "110"),
            (&["fa:16:3e:12:34:56", "100", "0"], "114"),
        ] {
            assert_eq!(run(words).as_deref(), Ok(expected), "{words:?}");
        }
        assert_eq!(run(&["nonsense"]), Err("invalid mac".to_owned()));
        assert_eq!(run(&["02:00:00:00:00:01", "x"]), Err("invalid vlan".to_owned()));
        assert_eq!(run(&["02:00:00:00:00:01", "5", "x"]), Err("invalid basis".to_owned()));
    }
}
