//! What a worker does with its tables allocates nothing, once they are made (design.md, invariant 4).

use allocation_counter::measure;
use flow::cache::{FlowCache, Lookup};
use flow::megaflow::{BURST, MAX_SUBTABLES, MISS, MegaflowTable, Slab};
use std::sync::Arc;
use wire::key::{FlowKey, FlowMask};

#[test]
fn a_worker_allocates_nothing() {
    const SLOTS: u32 = 20_000;
    let slab = Arc::new(Slab::new(SLOTS as usize));
    let mut lookup = Lookup::new(MegaflowTable::new(slab.clone(), 64), FlowCache::new(1024));
    let key = |i: u32| {
        let mut key = FlowKey { in_port: i % 7, nw_dst: i.into(), ..FlowKey::ZERO };
        key.ipv6_dst[12..].copy_from_slice(&i.to_be_bytes());
        key
    };
    // In-port i looks at nothing else, or has i masks, of up to 16 words besides the in-port.
    let mask = |i: u32| {
        let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
        if !i.is_multiple_of(7) {
            let words = 1 + (i / 7) % (i % 7) * 3;
            mask.words_mut()[4..4 + words as usize].fill(u64::MAX);
        }
        mask
    };
    let mut hits = [MISS; BURST];
    let mut programs = [0; BURST];
    let (mut found, mut installed, mut reprogrammed) = (0u64, 0, 0);

    let counted = measure(|| {
        for slot in 0..SLOTS {
            installed += u32::from(lookup.table.insert(slot, &key(slot), &mask(slot), slot).is_ok());
        }
        for round in 0..SLOTS {
            // Every other burst is of one in-port.
            let stride = if round % 2 == 0 { 7 } else { 1 };
            let burst: [FlowKey; BURST] = core::array::from_fn(|i| key((round + i as u32 * stride) % SLOTS));
            lookup.classify(&burst, &mut hits);
            lookup.table.take_burst(&hits, &[64; BURST], &mut programs);
            lookup.table.account_burst(&hits, &[64; BURST]);
            lookup.table.lookup_burst(&burst, &mut hits);
            found += hits.iter().filter(|&&hit| hit != MISS).count() as u64;
            match round % 16 {
                0 => lookup.table.resort(),
                1 => installed -= u32::from(lookup.table.remove(round).is_some()),
                2 => {
                    installed +=
                        u32::from(lookup.table.insert(round - 1, &key(round), &mask(round + 7), 1).is_ok());
                }
                3 => reprogrammed += u32::from(lookup.table.set_program(round, 5)),
                _ => {}
            }
        }
        assert_eq!(lookup.table.len(), installed as usize);
        assert!(reprogrammed > 1000);
        // More masks than there is room for, too.
        lookup.table.clear();
        for slot in 0..SLOTS {
            let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
            mask.nw_dst = (slot + 1).into();
            let inserted = lookup.table.insert(slot, &key(slot), &mask, slot);
            assert_eq!(inserted.is_ok(), (slot as usize) < MAX_SUBTABLES);
        }
        lookup.cache.clear();
        lookup.table.clear();
    });

    assert_eq!((counted.count_total, counted.count_current), (0, 0), "allocated, or freed");
    assert!(
        found > u64::from(SLOTS) * 16,
        "{found} packets found their megaflow: the test looks up too little"
    );
    let counted: u64 = (0..SLOTS).map(|slot| slab.stats(slot).0).sum();
    assert!(counted > 0);
}
