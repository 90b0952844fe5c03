//! The ring against a driver that the test plays: a good one, one that lies in known ways, and random bytes.

use super::*;
use crate::virtio::Region;
use proptest::prelude::*;

const SIZE: u16 = 8;
/// The guest's address of its memory, and where the ring's parts are in it.
const GUEST: u64 = 0x10_0000;
const AVAIL: usize = 0x100;
const USED: usize = 0x200;
/// Where indirect tables and packets are.
const DATA: usize = 0x400;
const LEN: usize = 0x1000;

/// A guest's memory with a ring.
struct Driver {
    bytes: Box<[u64; LEN / 8]>,
    ring: SplitRing,
}

impl Driver {
    fn new(event_idx: bool, next: u16) -> Driver {
        let mut bytes = Box::new([0_u64; LEN / 8]);
        let host: *mut u8 = bytes.as_mut_ptr().cast();
        let memory = Arc::new(Memory::new([Region { guest: GUEST, len: LEN as u64, host }]));
        let at = Addresses { desc: host, avail: host.wrapping_add(AVAIL), used: host.wrapping_add(USED) };
        // SAFETY: the memory lives as long as the ring.
        let ring = unsafe { SplitRing::new(&memory, at, SIZE, event_idx, next) }.expect("a ring");
        let mut driver = Driver { bytes, ring };
        driver.put(AVAIL + 2, &next.to_le_bytes());
        driver
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= LEN);
        // SAFETY: within the memory, which the ring refers to by pointers only.
        unsafe {
            self.bytes
                .as_mut_ptr()
                .cast::<u8>()
                .add(at)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        };
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        assert!(at + N <= LEN);
        // SAFETY: within the memory.
        unsafe { self.bytes.as_ptr().cast::<u8>().add(at).cast::<[u8; N]>().read() }
    }

    /// Descriptor `number` of the table at an offset.
    fn descriptor(&mut self, table: usize, number: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.put(table + 16 * usize::from(number), &bytes);
    }

    fn make_available(&mut self, head: u16) {
        let index = u16::from_le_bytes(self.get(AVAIL + 2));
        self.put(AVAIL + 4 + 2 * usize::from(index % SIZE), &head.to_le_bytes());
        self.put(AVAIL + 2, &index.wrapping_add(1).to_le_bytes());
    }

    /// The next chain's number and its pieces: offset and length.
    fn chain(&mut self, ahead: u16, writable: bool) -> Result<(u16, Vec<(u64, usize)>), Broken> {
        let mut pieces = Vec::new();
        let head = self.ring.chain(ahead, writable, &mut pieces)?;
        Ok((head, pieces.iter().map(|piece| (piece.guest - GUEST, piece.len)).collect()))
    }
}

#[test]
fn chains_are_used_in_order_around_the_end_of_the_ring() {
    let mut driver = Driver::new(false, u16::MAX);
    driver.descriptor(0, 3, GUEST + DATA as u64, 10, NEXT, 5);
    driver.descriptor(0, 5, GUEST + DATA as u64 + 10, 0, NEXT, 1);
    driver.descriptor(0, 1, GUEST + DATA as u64 + 20, 30, 0, 0);
    // The same in a table of its own, behind it.
    let table = DATA + 0x100;
    driver.descriptor(0, 6, GUEST + table as u64, 32, INDIRECT, 0);
    driver.descriptor(table, 0, GUEST + DATA as u64, 10, NEXT, 1);
    driver.descriptor(table, 1, GUEST + DATA as u64 + 20, 30, 0, 0);
    driver.make_available(3);
    driver.make_available(6);
    assert_eq!(driver.ring.available(), 2);
    let pieces = vec![(DATA as u64, 10), (DATA as u64 + 20, 30)];
    assert_eq!(driver.chain(1, false), Ok((6, pieces.clone())));
    assert_eq!(driver.chain(0, false), Ok((3, pieces)));
    driver.ring.give_back(3, 7);
    driver.ring.give_back(6, 0);
    assert_eq!((driver.ring.available(), driver.ring.next()), (0, 1));
    assert_eq!(driver.get::<2>(USED + 2), [0; 2], "nobody was told yet");
    assert!(driver.ring.publish(), "the driver wants to know");
    assert!(!driver.ring.publish(), "there is nothing new");
    assert_eq!(driver.get::<2>(USED + 2), 1_u16.to_le_bytes());
    // Entry 7 of the ring, then entry 0.
    assert_eq!(driver.get::<8>(USED + 4 + 56), [3, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(driver.get::<8>(USED + 4), [6, 0, 0, 0, 0, 0, 0, 0]);
    let used = USED as u64 + GUEST;
    assert_eq!(
        driver.ring.written_since(u16::MAX),
        [Some((used + 2, 2)), Some((used + 60, 8)), Some((used + 4, 8))]
    );
}

#[test]
fn the_driver_is_interrupted_when_it_wants_to_be() {
    let mut driver = Driver::new(false, 0);
    assert_eq!(driver.get::<2>(USED), NO_INTERRUPT.to_le_bytes(), "it need not notify us");
    let use_one = |driver: &mut Driver| {
        driver.make_available(0);
        driver.ring.give_back(0, 0);
        driver.ring.publish()
    };
    assert!(use_one(&mut driver));
    driver.put(AVAIL, &NO_INTERRUPT.to_le_bytes());
    assert!(!use_one(&mut driver));
    // At the index that it says.
    let mut driver = Driver::new(true, 0);
    let event = AVAIL + 4 + 2 * usize::from(SIZE);
    driver.put(event, &2_u16.to_le_bytes());
    // The first time nobody knows what it was told before.
    let told: Vec<bool> = (0..4).map(|_| use_one(&mut driver)).collect();
    assert_eq!(told, [true, false, true, false]);
}

#[test]
fn lies_break_the_ring_and_nothing_else() {
    let at = GUEST + DATA as u64;
    let table = DATA + 0x100;
    type Lie<'a> = (&'a str, &'a dyn Fn(&mut Driver));
    let lies: [Lie<'_>; 13] = [
        ("a loop", &|d| d.descriptor(0, 0, at, 1, NEXT, 0)),
        ("a loop of nothing", &|d| {
            d.descriptor(0, 0, at, 0, NEXT, 1);
            d.descriptor(0, 1, at, 0, NEXT, 0);
        }),
        ("a next one that there is not", &|d| d.descriptor(0, 0, at, 1, NEXT, SIZE)),
        ("a first one that there is not", &|d| d.put(AVAIL + 4, &SIZE.to_le_bytes())),
        ("nobody's memory", &|d| d.descriptor(0, 0, 7, 1, 0, 0)),
        ("memory that ends", &|d| d.descriptor(0, 0, GUEST + LEN as u64 - 1, 2, 0, 0)),
        ("memory around the end", &|d| d.descriptor(0, 0, u64::MAX, 2, 0, 0)),
        ("the other direction", &|d| d.descriptor(0, 0, at, 1, WRITE, 0)),
        ("a table of half a descriptor", &|d| d.descriptor(0, 0, GUEST + table as u64, 24, INDIRECT, 0)),
        ("a table of none", &|d| d.descriptor(0, 0, GUEST + table as u64, 0, INDIRECT, 0)),
        ("a table that ends", &|d| {
            d.descriptor(0, 0, GUEST + LEN as u64 - 8, 16, INDIRECT, 0);
        }),
        ("a table in a table", &|d| {
            d.descriptor(0, 0, GUEST + table as u64, 16, INDIRECT, 0);
            d.descriptor(table, 0, GUEST + table as u64, 16, INDIRECT, 0);
        }),
        ("a table with more behind it", &|d| {
            d.descriptor(0, 0, GUEST + table as u64, 16, INDIRECT | NEXT, 1);
            d.descriptor(table, 0, at, 1, 0, 0);
        }),
    ];
    for (what, lie) in lies {
        let mut driver = Driver::new(false, 0);
        driver.make_available(0);
        lie(&mut driver);
        assert_eq!(driver.ring.available(), 1, "{what}");
        assert_eq!(driver.chain(0, false), Err(Broken), "{what}");
        assert!(driver.ring.is_broken(), "{what}");
        assert_eq!(driver.ring.available(), 0, "{what}: it is used no more");
    }
    // More than there can be.
    let mut driver = Driver::new(false, 0);
    driver.put(AVAIL + 2, &(SIZE + 1).to_le_bytes());
    assert_eq!((driver.ring.available(), driver.ring.is_broken()), (0, true));
}

#[test]
fn many_pieces_are_refused() {
    let mut driver = Driver::new(false, 0);
    let count = MAX_CHAIN as u32 / 2;
    driver.descriptor(0, 0, GUEST + DATA as u64, 16 * count, INDIRECT, 0);
    for number in 0..count as u16 {
        let flags = if u32::from(number) + 1 < count { NEXT } else { 0 };
        driver.descriptor(DATA, number, GUEST, 1, flags, number + 1);
    }
    driver.make_available(0);
    let mut pieces = Vec::new();
    assert_eq!(driver.ring.chain(0, false, &mut pieces), Ok(0));
    assert_eq!(driver.ring.chain(0, false, &mut pieces), Ok(0));
    assert_eq!(pieces.len(), MAX_CHAIN);
    assert_eq!(driver.ring.chain(0, false, &mut pieces), Err(Broken));
}

#[test]
fn a_ring_lies_in_the_memory_as_a_whole() {
    let mut bytes = vec![0_u64; LEN / 8];
    let host: *mut u8 = bytes.as_mut_ptr().cast();
    let memory = Arc::new(Memory::new([Region { guest: GUEST, len: LEN as u64, host }]));
    let try_at = |desc: usize, avail: usize, used: usize, size: u16| {
        let at = |offset| host.wrapping_add(offset);
        let at = Addresses { desc: at(desc), avail: at(avail), used: at(used) };
        // SAFETY: the memory lives as long as the ring.
        unsafe { SplitRing::new(&memory, at, size, true, 0) }.is_some()
    };
    assert!(try_at(0, AVAIL, USED, SIZE));
    assert!(try_at(LEN - 128, AVAIL, USED, 8));
    // What was checked for a ring of eight is asked again for one of sixteen.
    for (desc, avail, used, size) in [
        (LEN - 128, AVAIL, USED, 16),
        (8, AVAIL, USED, SIZE),
        (0, AVAIL + 1, USED, SIZE),
        (0, AVAIL, USED + 2, SIZE),
        (0, LEN - 20, USED, SIZE),
        (0, AVAIL, LEN - 68, SIZE),
        (0, AVAIL, USED, 0),
        (0, AVAIL, USED, 7),
        (0, AVAIL, USED, 32_768),
        (LEN, AVAIL, USED, SIZE),
    ] {
        assert!(!try_at(desc, avail, used, size), "{desc:#x} {avail:#x} {used:#x} {size}");
    }
}

proptest! {
    /// Whatever the guest's memory says, what is given out is in it.
    #[test]
    fn random_memory_gives_nothing_outside_it(
        words in proptest::collection::vec(prop_oneof![any::<u64>(), 0..0x40_u64, GUEST..GUEST + 0x800], LEN / 8),
        available in 1_u16..=SIZE,
        writable in any::<bool>(),
    ) {
        let mut driver = Driver::new(false, 0);
        words.iter().enumerate().for_each(|(at, word)| driver.put(8 * at, &word.to_le_bytes()));
        driver.put(AVAIL + 2, &available.to_le_bytes());
        for _ in 0..driver.ring.available() {
            let mut pieces = Vec::new();
            let Ok(head) = driver.ring.chain(0, writable, &mut pieces) else { break };
            prop_assert!(pieces.len() <= MAX_CHAIN);
            for piece in pieces {
                let start = piece.host.addr() - driver.bytes.as_ptr().addr();
                prop_assert!(piece.len > 0 && start + piece.len <= LEN);
                prop_assert_eq!(piece.guest, GUEST + start as u64);
            }
            driver.ring.give_back(head, 1);
        }
        driver.ring.publish();
    }
}
