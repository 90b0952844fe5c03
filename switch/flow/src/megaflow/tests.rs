//! The megaflow table against a linear reference.

use super::*;
use proptest::prelude::*;
use wire::hot::HotKey;

/// In-ports of the tests; the last one is out of the table's range.
const PORTS: u32 = 4;
const SLOTS: u32 = 96;

/// Masks that differ in number and place of their words, 0 to 19 besides the in-port.
fn mask(number: usize) -> FlowMask {
    let mut mask = FlowMask::ZERO;
    for (i, word) in mask.words_mut().iter_mut().enumerate().skip(1) {
        // Some words are looked at in part only.
        let bits = if i % 3 == 0 { 0x0000_0000_ffff_0003 } else { 0x0300_0000_0000_0001 };
        let wanted = match number {
            0..=5 => (2..2 + number).contains(&i),
            6..=8 => i % (number - 3) == 1,
            9 => true,
            10 => i == 1,
            11 => i >= 14,
            12 => (2..9).contains(&i),
            _ => i < 8,
        };
        *word = if wanted { bits } else { 0 };
    }
    mask.in_port = u32::MAX;
    if number % 2 == 1 {
        mask.tun_id = 0x00ff_ffff;
    }
    mask
}
const MASKS: usize = 14;

/// Keys with few values, so that different megaflows match, and some bits that no mask looks at.
fn keys() -> impl Strategy<Value = FlowKey> {
    (0..=PORTS, 0u32..2, 0u64..3, any::<u64>()).prop_map(|(in_port, tun_id, value, noise)| {
        let mut key = FlowKey::ZERO;
        key.words_mut().fill(value | value << 16 | value << 56 | noise & 0x00f0_0000_0000_0f00);
        key.in_port = in_port;
        key.tun_id = tun_id;
        key
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Ordinary frames are found by their hot keys just as by their whole keys, or not at all.
    #[test]
    fn lookup_by_hot_keys_is_the_lookup(
        masks in prop::collection::vec((1usize..16, any::<bool>(), 0u32..2), 1..3),
        values in prop::collection::vec((prop::array::uniform4(0u64..3), 0u32..2), 0..60),
        frames in prop::collection::vec(prop::array::uniform4(0u64..3), 1..32),
        noise in any::<u64>(),
        small in any::<bool>(),
    ) {
        // Few slots, so that buckets overflow.
        let mut table = MegaflowTable::new(Arc::new(Slab::new(64)), 2);
        let key = |words: &HotKey, in_port: u32| {
            let mut key = FlowKey { in_port, ..FlowKey::ZERO };
            key.words_mut()[2..6].copy_from_slice(&words.map(|word| word << 8 | noise & 0xf0));
            key
        };
        let mut slot = 0;
        for (words, in_port) in &values {
            for (bits, other, port) in &masks {
                let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
                for word in 0..4 {
                    mask.words_mut()[2 + word] = if bits >> word & 1 == 1 { 0xff0f } else { 0 };
                }
                mask.tcp_flags = u16::from(*other && bits % 3 == 0).into();
                if port == in_port && table.insert(slot, &key(words, *in_port), &mask, 100 + slot).is_ok() {
                    slot += 1;
                }
            }
        }
        for in_port in 0..2 {
            let keys: Vec<FlowKey> = frames.iter().map(|words| key(words, in_port)).collect();
            let words: Vec<HotKey> =
                keys.iter().map(|key| std::array::from_fn(|i| key.words()[2 + i])).collect();
            let (mut hits, mut programs) = (vec![77; words.len()], vec![0; words.len()]);
            table.small = if small { table.len } else { 0 };
            let missed = table.lookup_hot(&words, in_port, &mut hits, &mut programs);
            for (at, key) in keys.iter().enumerate() {
                if missed & 1 << at != 0 {
                    prop_assert_eq!(hits[at], MISS);
                    prop_assert!(!table.is_hot(in_port) || table.lookup(key).is_none());
                } else {
                    prop_assert_eq!(table.lookup(key), Some(hits[at]));
                    prop_assert_eq!(table.program(hits[at]), programs[at]);
                }
            }
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "a test has a few steps")]
#[derive(Clone, Debug)]
enum Step {
    Insert { slot: u32, key: FlowKey, mask: usize, program: u32 },
    Remove { slot: u32 },
    SetProgram { slot: u32, program: u32 },
    Account { slot: u32, packets: u64, bytes: u64 },
    Lookup { keys: Vec<FlowKey>, one_port: bool },
    Resort,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..=SLOTS, keys(), 0..MASKS, any::<u32>())
            .prop_map(|(slot, key, mask, program)| Step::Insert { slot, key, mask, program }),
        6 => (0..=SLOTS).prop_map(|slot| Step::Remove { slot }),
        2 => (0..=SLOTS, any::<u32>()).prop_map(|(slot, program)| Step::SetProgram { slot, program }),
        2 => (0..SLOTS, 0u64..100, 0u64..10_000)
            .prop_map(|(slot, packets, bytes)| Step::Account { slot, packets, bytes }),
        8 => (prop::collection::vec(keys(), 0..70), any::<bool>())
            .prop_map(|(keys, one_port)| Step::Lookup { keys, one_port }),
        1 => Just(Step::Resort),
    ];
    let clear = prop_oneof![60 => Just(None), 1 => Just(Some(Step::Clear))];
    prop::collection::vec((step, clear).prop_map(|(step, clear)| clear.unwrap_or(step)), 1..150)
}

/// What the reference keeps of a slot.
#[derive(Clone, Copy)]
struct Installed {
    key: FlowKey,
    mask: FlowMask,
    program: u32,
    stats: (u64, u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn table_is_the_linear_reference(steps in steps()) {
        let slab = Arc::new(Slab::new(SLOTS as usize));
        let mut table = MegaflowTable::new(slab.clone(), PORTS as usize);
        let mut reference: Vec<Option<Installed>> = vec![None; SLOTS as usize];
        for step in steps {
            match step {
                Step::Insert { slot, key, mask: number, program } => {
                    let mask = mask(number);
                    let masked = key.masked(&mask);
                    let twin = reference.iter().position(|entry| entry.is_some_and(|e| e.key == masked && e.mask == mask));
                    let expected = if slot >= SLOTS {
                        Err(InsertError::SlotOutOfRange { slot, slots: SLOTS as usize })
                    } else if reference[slot as usize].is_some() {
                        Err(InsertError::SlotBusy { slot })
                    } else if key.in_port >= PORTS {
                        Err(InsertError::PortOutOfRange { in_port: key.in_port, max_ports: PORTS as usize })
                    } else if let Some(slot) = twin {
                        Err(InsertError::Duplicate { slot: slot as u32 })
                    } else {
                        reference[slot as usize] = Some(Installed { key: masked, mask, program, stats: (0, 0) });
                        Ok(())
                    };
                    prop_assert_eq!(table.insert(slot, &key, &mask, program), expected);
                }
                Step::Remove { slot } => {
                    let expected = reference.get_mut(slot as usize).and_then(Option::take).map(|e| e.stats);
                    prop_assert_eq!(table.remove(slot), expected);
                }
                Step::SetProgram { slot, program } => {
                    let entry = reference.get_mut(slot as usize).and_then(Option::as_mut);
                    prop_assert_eq!(table.set_program(slot, program), entry.is_some());
                    if let Some(entry) = entry {
                        entry.program = program;
                    }
                }
                Step::Account { slot, packets, bytes } => {
                    if let Some(entry) = &mut reference[slot as usize] {
                        table.account(slot, packets, bytes);
                        entry.stats = (entry.stats.0 + packets, entry.stats.1 + bytes);
                    }
                }
                Step::Lookup { mut keys, one_port } => {
                    if one_port && let Some(first) = keys.first().copied() {
                        for key in &mut keys {
key.in_port = first.in_port;
}
                    }
                    let mut hits = vec![77; keys.len()];
                    table.lookup_burst(&keys, &mut hits);
                    for (key, hit) in keys.iter().zip(hits) {
                        let matching = |e: &Installed| e.key == key.masked(&e.mask);
                        let any = reference.iter().flatten().any(matching);
                        prop_assert_eq!(hit != MISS, any, "{:?}", key);
                        prop_assert_eq!(table.lookup(key).is_some(), any);
                        if hit != MISS {
                            let entry = reference[hit as usize].as_ref();
                            prop_assert!(entry.is_some_and(matching));
                            prop_assert_eq!(entry.map(|e| e.program), Some(table.program(hit)));
                        }
                        for (slot, entry) in reference.iter().enumerate() {
                            prop_assert_eq!(table.matches(slot as u32, key), entry.as_ref().is_some_and(matching));
                        }
                    }
                }
                Step::Resort => table.resort(),
                Step::Clear => {
                    table.clear();
                    reference.fill(None);
                }
            }
            prop_assert_eq!(table.len(), reference.iter().flatten().count());
            for port in 0..PORTS {
                let mut masks: Vec<_> =
                    reference.iter().flatten().filter(|e| e.key.in_port == port).map(|e| *e.mask.words()).collect();
                masks.sort_unstable();
                masks.dedup();
                prop_assert_eq!(table.masks(port), masks.len());
            }
            for (slot, entry) in reference.iter().enumerate() {
                if let Some(entry) = entry {
                    prop_assert_eq!(slab.stats(slot as u32), entry.stats);
                }
            }
        }
        // Everything goes away again, and leaves nothing behind.
        for slot in 0..SLOTS {
            table.remove(slot);
        }
        prop_assert!(table.is_empty());
        prop_assert_eq!(table.free.len(), MAX_SUBTABLES);
        prop_assert!(table.index.buckets().iter().flatten().all(|&cell| cell == 0));
    }
}

/// A full table of `mask`, then every key found, by bursts and one by one.
#[test]
fn a_full_table_finds_every_megaflow() {
    const SLOTS: u32 = 5000;
    for number in [1, 2, 3, 4, 5, 9, 12] {
        let mask = FlowMask { nw_dst: u32::MAX.into(), ..mask(number) };
        let mut table = MegaflowTable::new(Arc::new(Slab::new(SLOTS as usize)), 8);
        let key = |i: u32| FlowKey { in_port: 1, nw_dst: i.into(), ..FlowKey::ZERO };
        let keys: Vec<_> = (0..SLOTS).map(key).collect();
        for (slot, key) in keys.iter().enumerate() {
            table.insert(slot as u32, key, &mask, slot as u32).unwrap();
        }
        let slots: Vec<_> = (0..SLOTS).collect();
        let mut hits = vec![0; SLOTS as usize];
        table.lookup_burst(&keys, &mut hits);
        assert_eq!(hits, slots);
        assert!(keys.iter().zip(&slots).all(|(key, &slot)| table.lookup(key) == Some(slot)));
        for slot in (0..SLOTS).step_by(3) {
            assert_eq!(table.remove(slot), Some((0, 0)));
        }
        table.lookup_burst(&keys, &mut hits);
        for (slot, &hit) in hits.iter().enumerate() {
            assert_eq!(hit, if slot % 3 == 0 { MISS } else { slot as u32 });
        }
    }
}

#[test]
fn subtables_run_out_and_come_back() {
    let mut table = MegaflowTable::new(Arc::new(Slab::new(MAX_SUBTABLES + 1)), MAX_SUBTABLES + 1);
    let mask = FlowMask { in_port: u32::MAX, nw_ttl: 1, ..FlowMask::ZERO };
    let key = |port: usize| FlowKey { in_port: port as u32, ..FlowKey::ZERO };
    for port in 0..MAX_SUBTABLES {
        table.insert(port as u32, &key(port), &mask, 0).unwrap();
    }
    let last = MAX_SUBTABLES as u32;
    assert_eq!(table.insert(last, &key(MAX_SUBTABLES), &mask, 0), Err(InsertError::SubtablesFull));
    assert_eq!((table.len(), table.lookup(&key(MAX_SUBTABLES))), (MAX_SUBTABLES, None));
    table.remove(17).unwrap();
    table.insert(last, &key(MAX_SUBTABLES), &mask, 0).unwrap();
    assert_eq!(table.lookup(&key(MAX_SUBTABLES)), Some(last));
}

#[test]
fn a_mask_without_all_of_the_in_port_is_refused() {
    let mut table = MegaflowTable::new(Arc::new(Slab::new(1)), 1);
    let mask = FlowMask { in_port: 0xffff, ..FlowMask::ZERO };
    assert_eq!(table.insert(0, &FlowKey::ZERO, &mask, 0), Err(InsertError::PortMasked { mask: 0xffff }));
    assert!(table.is_empty());
}

#[test]
fn the_hot_subtable_comes_first() {
    let mut table = MegaflowTable::new(Arc::new(Slab::new(3)), 2);
    let key = |i: usize| {
        let mut key = FlowKey { in_port: 1, ..FlowKey::ZERO };
        key.words_mut()[4] = i as u64;
        key
    };
    let masks = [2, 3, 4].map(|words| {
        let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
        mask.words_mut()[4..4 + words].fill(u64::MAX);
        mask
    });
    for (i, mask) in masks.iter().enumerate() {
        table.insert(i as u32, &key(i), mask, 0).unwrap();
    }
    let mut hits = [0; 8];
    table.lookup_burst(&[key(2); 8], &mut hits);
    table.lookup_burst(&[key(1); 4], &mut hits[..4]);
    table.resort();
    let order = |table: &MegaflowTable| {
        let first = table.ports[1].head;
        let second = table.subtables[first as usize].next;
        [first, second].map(|id| table.subtables[id as usize].len)
    };
    assert_eq!(order(&table), [4, 3]);
    // Old hits fade against new ones; a burst of two ports counts too.
    let mut burst = [key(0); 12];
    burst[3].in_port = 0;
    table.lookup_burst(&burst, &mut [0; 12]);
    table.resort();
    assert_eq!(order(&table), [2, 4]);
}

#[test]
fn bursts_are_accounted_by_runs() {
    let slab = Arc::new(Slab::new(4));
    let mut table = MegaflowTable::new(slab.clone(), 8);
    let mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
    for slot in 0..3 {
        table.insert(slot, &FlowKey { in_port: slot, ..FlowKey::ZERO }, &mask, 9).unwrap();
    }
    table.account_burst(&[0, 0, 2, MISS, 2, 0], &[60, 70, 80, 90, 100, 110]);
    assert_eq!([0, 1, 2].map(|slot| slab.stats(slot)), [(3, 240), (0, 0), (2, 180)]);
    let mut programs = [7; 4];
    table.take_burst(&[2, MISS, 1, 2], &[20, 30, 0, 5], &mut programs);
    assert_eq!(programs, [9, 0, 9, 9]);
    assert_eq!([1, 2].map(|slot| slab.stats(slot)), [(1, 0), (4, 205)]);
    assert_eq!(table.remove(0), Some((3, 240)));
    assert_eq!(table.remove(0), None);
    assert_eq!(slab.stats(0), (0, 0), "the slow path may have put the next one there already, in its books");
    // The next megaflow of the slot begins anew.
    table.insert(0, &FlowKey { in_port: 5, ..FlowKey::ZERO }, &mask, 9).unwrap();
    assert_eq!(slab.stats(0), (0, 0));
}

#[test]
#[should_panic(expected = "one writer a slab")]
fn a_slab_has_one_table() {
    let slab = Arc::new(Slab::new(1));
    let _first = MegaflowTable::new(slab.clone(), 1);
    let _second = MegaflowTable::new(slab, 1);
}

#[test]
fn a_megaflow_costs_what_is_said() {
    let table = MegaflowTable::new(Arc::new(Slab::new(1 << 16)), 1);
    assert!((82.0..83.0).contains(&table.bytes_per_megaflow()), "{}", table.bytes_per_megaflow());
}

/// Runs of addresses and ports leave few megaflows outside of their home bucket, whatever secrets a table draws.
#[test]
fn sequential_megaflows_spread_over_the_buckets() {
    type Vary = fn(&mut FlowKey, u32);
    let ways: [(&str, &[usize], Vary); 5] = [
        ("address", &[4], |k, i| k.nw_dst.set(0x0a00_0000 + i)),
        ("addresses", &[4], |k, i| (k.nw_src, k.nw_dst) = ((i & 0xff).into(), (i >> 8).into())),
        ("port", &[4, 5], |k, i| k.tp_src.set(i as u16)),
        ("MAC", &[2, 3], |k, i| k.dl_dst.0[2..].copy_from_slice(&i.to_be_bytes())),
        ("IPv6 address", &[2, 3, 8, 9, 10, 11], |k, i| k.ipv6_dst[12..].copy_from_slice(&i.to_be_bytes())),
    ];
    const SLOTS: u32 = 2048;
    for (name, words, vary) in ways {
        let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
        for &word in words {
            mask.words_mut()[word] = u64::MAX;
        }
        for _ in 0..100 {
            let mut table = MegaflowTable::new(Arc::new(Slab::new(SLOTS as usize)), 2);
            for slot in 0..SLOTS {
                let mut key = FlowKey { in_port: 1, ..FlowKey::ZERO };
                vary(&mut key, slot);
                table.insert(slot, &key, &mask, 0).unwrap();
            }
            let passed: u32 = table.index.buckets().iter().map(|bucket| bucket[index::OVERFLOW]).sum();
            assert!(passed < SLOTS / 20, "{name}: {passed} buckets passed by {SLOTS} megaflows");
        }
    }
}
