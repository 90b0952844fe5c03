//! A guest's memory: where its physical addresses are in this process.

/// Physical addresses that lie in one piece here.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The first of the guest's addresses.
    pub guest: u64,
    /// Bytes.
    pub len: u64,
    /// Where the first one is here.
    pub host: *mut u8,
}

/// Some of a guest's bytes, in one piece here. The guest may write them at any time.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where they are here.
    pub host: *mut u8,
    /// How many.
    pub len: usize,
    /// The guest's address of the first.
    pub guest: u64,
}

/// What a guest shares with us.
#[derive(Debug)]
pub struct Memory {
    regions: Box<[Region]>,
    /// What the regions are in, where that is nobody else's.
    pub(super) own: Option<Box<[u64]>>,
}

// SAFETY: addresses; whoever uses one sees to it that it is still mapped.
unsafe impl Send for Memory {}
// SAFETY: as for Send; nothing changes them.
unsafe impl Sync for Memory {}

impl Memory {
    /// These regions, without those that wrap around an end of the address space.
    pub fn new(regions: impl IntoIterator<Item = Region>) -> Memory {
        let wraps = |region: &Region| {
            region.guest.checked_add(region.len).is_none()
                || (region.host.addr() as u64).checked_add(region.len).is_none()
        };
        let regions = regions.into_iter().filter(|region| !wraps(region)).collect();
        Memory { regions, own: None }
    }

    /// One region, which this owns.
    pub fn own(guest: u64, mut bytes: Box<[u64]>) -> Memory {
        let (host, len) = (bytes.as_mut_ptr().cast(), 8 * bytes.len() as u64);
        let memory = Memory::new([Region { guest, len, host }]);
        Memory { own: Some(bytes), ..memory }
    }

    /// As many of the `len` bytes at `address` as lie in one piece; `None` when the first is nobody's.
    #[inline]
    pub fn piece(&self, address: u64, len: u64) -> Option<Piece> {
        let within = |region: &&Region| address.wrapping_sub(region.guest) < region.len;
        let region = self.regions.iter().find(within)?;
        let offset = address - region.guest;
        let len = len.min(region.len - offset) as usize;
        Some(Piece { host: region.host.wrapping_add(offset as usize), len, guest: address })
    }

    /// The guest's address of `len` bytes of this process that lie in a region as a whole.
    pub fn guest_address(&self, host: *const u8, len: usize) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = host.addr().wrapping_sub(region.host.addr()) as u64;
            (offset < region.len && len as u64 <= region.len - offset).then(|| region.guest + offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_regions_is_found() {
        let mut bytes = vec![0_u8; 0x300];
        let host = bytes.as_mut_ptr();
        let region = |guest, len, offset| Region { guest, len, host: host.wrapping_add(offset) };
        let memory =
            Memory::new([region(0x1000, 0x100, 0), region(0x1100, 0x100, 0x200), region(u64::MAX, 2, 0x100)]);
        let found = |address, len| {
            let piece = memory.piece(address, len)?;
            Some((piece.host.addr() - host.addr(), piece.len))
        };
        assert_eq!(found(0x1000, 0x20), Some((0, 0x20)));
        // The next region lies elsewhere.
        assert_eq!(found(0x10f0, 0x20), Some((0xf0, 0x10)));
        assert_eq!(found(0x1100, u64::MAX), Some((0x200, 0x100)));
        for nobodys in [0, 0xfff, 0x1200, u64::MAX] {
            assert_eq!(found(nobodys, 1), None, "{nobodys:#x}");
        }
        assert_eq!(memory.guest_address(host.wrapping_add(0x210), 0xf0), Some(0x1110));
        assert_eq!(memory.guest_address(host.wrapping_add(0x210), 0xf1), None);
        assert_eq!(memory.guest_address(host.wrapping_add(0x110), 1), None);
        assert_eq!(memory.guest_address(host.wrapping_sub(1), 1), None);
    }
}
