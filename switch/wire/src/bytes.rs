//! Checked and constant-offset access to byte slices.

/// `N` bytes at `at`, or `None` when the slice ends before.
#[inline(always)]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Big-endian 16 bits at `at`.
#[inline(always)]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// The `N` bytes at `AT` of an array: the offsets are checked when compiled.
#[inline(always)]
pub(crate) fn part<const AT: usize, const N: usize, const LEN: usize>(bytes: &[u8; LEN]) -> [u8; N] {
    const { assert!(AT + N <= LEN) };
    let mut out = [0; N];
    out.copy_from_slice(&bytes[AT..AT + N]);
    out
}

/// Little-endian 64 bits at `AT` of an array.
#[inline(always)]
pub(crate) fn le64<const AT: usize, const LEN: usize>(bytes: &[u8; LEN]) -> u64 {
    u64::from_le_bytes(part::<AT, 8, LEN>(bytes))
}

/// Copies `value` to `at`; the caller has checked the room, too little of it copies nothing.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(to) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *to = value;
    }
}
