//! Mempools, mbufs and bursts: bounds, ownership, and that nothing gets lost.

mod common;

use common::{eal, numbered, numbers, pool};
use rte::{Burst, Mempool};

#[test]
fn every_mbuf_comes_back() {
    eal("0", &[]);
    let pool = pool("comes_back", 255);
    assert_eq!((pool.capacity(), pool.available(), pool.in_use()), (255, 255, 0));
    let mut burst = Burst::<32>::new();
    assert!(pool.alloc_bulk(&mut burst, 20));
    assert!(!pool.alloc_bulk(&mut burst, 13), "there is room for 12 only");
    assert!(pool.alloc_bulk(&mut burst, 12));
    assert!(burst.is_full());
    assert_eq!(pool.in_use(), 32);
    let extra = pool.alloc().expect("the pool has more");
    let extra = burst.push(extra).expect_err("a full burst gives it back");
    assert_eq!(pool.in_use(), 33);
    drop(extra);
    drop(burst.pop());
    assert_eq!((burst.len(), pool.in_use()), (31, 31));
    burst.truncate(10);
    assert_eq!((burst.len(), pool.in_use()), (10, 10));
    burst.clear();
    assert_eq!(pool.in_use(), 0);
    assert!(pool.alloc_bulk(&mut burst, 5));
    drop(burst);
    assert_eq!(pool.in_use(), 0, "dropping a burst frees it");
}

#[test]
fn an_exhausted_pool_gives_nothing() {
    eal("0", &[]);
    let pool = pool("exhausted", 63);
    let mut all = Burst::<64>::new();
    assert!(!pool.alloc_bulk(&mut all, 64));
    assert!(all.is_empty());
    assert!(pool.alloc_bulk(&mut all, 63));
    assert!(pool.alloc().is_none());
    assert!(all[0].copy_to(&pool).is_none());
    rte::burst::free_bulk(all.drain());
    assert_eq!(pool.available(), 63);
}

#[test]
fn moving_between_bursts_keeps_order_and_count() {
    eal("0", &[]);
    let pool = pool("moving", 255);
    let mut from: Burst<32> = numbered(&pool, 10);
    let mut to = Burst::<4>::new();
    assert_eq!(to.append(&mut from), 4);
    assert_eq!((numbers(&to), numbers(&from)), (vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8, 9]));
    assert_eq!(to.append(&mut from), 0, "it is full");
    let taken = from.swap_remove(1);
    assert_eq!(taken.data(), [5]);
    assert_eq!(numbers(&from), [4, 9, 6, 7, 8]);
    {
        let mut drain = from.drain();
        assert_eq!(drain.len(), 5);
        assert_eq!(drain.next().expect("the first").data(), [4]);
    }
    assert!(from.is_empty());
    assert_eq!(pool.in_use(), 5, "what a drain did not give out is freed: four in `to` and `taken` are left");
    let kept: Vec<_> = to.drain().collect();
    assert_eq!(numbers(&kept), [0, 1, 2, 3]);
    drop((kept, taken));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn the_rest_of_a_drain_can_be_changed_and_moved_on() {
    eal("0", &[]);
    let pool = pool("rest", 255);
    let mut from: Burst<32> = numbered(&pool, 9);
    let mut to = Burst::<4>::new();
    let mut drain = from.drain();
    assert_eq!(numbers(drain.rest_mut()), (0..9).collect::<Vec<_>>());
    drop(drain.next());
    for mbuf in drain.rest_mut() {
        let number = mbuf.data()[0];
        *mbuf.prepend_array().expect("headroom") = [number + 100, 7];
    }
    assert_eq!(drain.move_to(&mut to, 3), 3);
    assert_eq!(drain.move_to(&mut to, 9), 1, "it is full");
    assert_eq!(drain.move_to(&mut to, 9), 0);
    let last = drain.next().expect("the sixth");
    assert_eq!(last.data(), [105, 7, 5]);
    assert_eq!(drain.len(), 3);
    drop(drain);
    assert!(from.is_empty());
    assert_eq!(
        to.iter().map(|mbuf| mbuf.data().to_vec()).collect::<Vec<_>>(),
        [[101, 7, 1], [102, 7, 2], [103, 7, 3], [104, 7, 4]]
    );
    assert_eq!(pool.in_use(), 5, "what was not given out is freed");
    drop((to, last));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_segment_has_bounds() {
    eal("0", &[]);
    let pool = Mempool::create("bounds", 15, 0, 128 + 100, -1).expect("a pool");
    let mut mbuf = pool.alloc().expect("an mbuf");
    assert!(mbuf.is_empty());
    assert_eq!((mbuf.headroom(), mbuf.tailroom(), mbuf.data_len()), (128, 100, 0));
    assert!(pool.alloc_with(&[1; 101]).is_none());
    assert_eq!(pool.alloc_with(&[1; 100]).expect("it fits").data(), [1; 100]);
    assert_eq!(pool.in_use(), 1);
    assert!(mbuf.append(101).is_none());
    assert!(mbuf.append(usize::MAX).is_none());
    mbuf.append(100).expect("all of it").copy_from_slice(&[7; 100]);
    assert!(mbuf.append(1).is_none());
    assert_eq!((mbuf.len(), mbuf.tailroom()), (100, 0));

    assert!(mbuf.prepend(129).is_none());
    assert!(mbuf.prepend_array::<129>().is_none());
    assert!(mbuf.prepend(65_536 + 4).is_none(), "no truncation to 16 bits");
    let mut moved = pool.alloc_with(&[1, 2, 3]).expect("an mbuf");
    moved.prepend_or_move(128).expect("the headroom").fill(7);
    moved.prepend_or_move(40).expect("the data moves back").fill(8);
    let expected = [&[8; 40][..], &[7; 128], &[1, 2, 3]].concat();
    assert_eq!((moved.data(), moved.len()), (&expected[..], 171));
    assert_eq!((moved.headroom(), moved.tailroom()), (57, 0), "for what comes next");
    let room = moved.headroom() + moved.tailroom();
    assert!(moved.prepend_or_move(room + 1).is_none());
    assert!(moved.prepend_or_move(1 << 17).is_none());
    assert_eq!(moved.data(), expected, "unchanged");
    moved.prepend_or_move(room).expect("all of the buffer");
    assert_eq!((moved.headroom(), moved.tailroom(), &moved.data()[room..]), (0, 0, &expected[..]));
    mbuf.prepend(128).expect("all of it").copy_from_slice(&[9; 128]);
    assert_eq!((mbuf.len(), mbuf.data_len(), mbuf.headroom()), (228, 228, 0));
    assert_eq!((mbuf.data()[127], mbuf.data()[128]), (9, 7));

    assert!(!mbuf.adj(229));
    assert!(!mbuf.adj(65_536));
    assert!(mbuf.adj(128));
    assert_eq!((mbuf.len(), mbuf.headroom(), mbuf.data()[0]), (100, 128, 7));
    assert!(!mbuf.trim(101));
    assert!(!mbuf.trim(65_536));
    assert!(mbuf.trim(99));
    assert_eq!((mbuf.data(), mbuf.tailroom()), (&[7][..], 99));
    assert!(mbuf.adj(1));
    assert!(mbuf.is_empty());
}

#[test]
fn a_chain_is_seen_whole() {
    eal("0", &[]);
    let large = pool("chain_large", 15);
    let small = Mempool::create("chain_small", 15, 0, 128 + 64, -1).expect("a pool");
    let mut mbuf = large.alloc().expect("an mbuf");
    let bytes: Vec<u8> = (0..150).collect();
    mbuf.append(150).expect("tailroom").copy_from_slice(&bytes);
    mbuf.set_port(5);

    let mut chain = mbuf.copy_to(&small).expect("three segments");
    assert_eq!((chain.segment_count(), chain.len(), chain.data_len(), chain.port()), (3, 150, 64, 5));
    assert_eq!(chain.segments().flatten().copied().collect::<Vec<u8>>(), bytes);
    let room = chain.tailroom();
    assert!(chain.append(room + 1).is_none());
    chain.append(1).expect("tailroom of the last")[0] = 150;
    assert_eq!(chain.segments().flatten().copied().last(), Some(150));
    assert!(chain.trim(1));
    assert!(!chain.trim(150), "the last segment has fewer");
    assert_eq!(chain.len(), 150);

    assert_eq!(small.in_use(), 3);
    drop(chain);
    assert_eq!(small.in_use(), 0, "a chain is freed whole");
    let copy = mbuf.copy_to(&large).expect("one segment");
    mbuf.data_mut()[0] = 99;
    assert_eq!(copy.data(), bytes, "the copy has bytes of its own");
}

#[test]
fn a_chain_that_fits_is_made_one_segment() {
    eal("0", &[]);
    let large = pool("linear_large", 15);
    let small = Mempool::create("linear_small", 15, 0, 128 + 64, -1).expect("a pool");
    let bytes: Vec<u8> = (0..192).collect();
    // Up to the tailroom nothing moves; beyond, the headroom shrinks; at 193 bytes the buffer ends.
    for (len, headroom) in [(64, 128), (65, 127), (150, 42), (192, 0)] {
        let mbuf = large.alloc_with(&bytes[..len]).expect("an mbuf");
        let mut chain = mbuf.copy_to(&small).expect("a chain");
        chain.linearize().expect("it fits");
        assert_eq!((chain.data(), chain.headroom(), chain.len()), (&bytes[..len], headroom, len as u32));
        assert_eq!((chain.segment_count(), small.in_use()), (1, 1), "the other segments are freed");
    }
    let mbuf = large.alloc_with(&[3; 193]).expect("an mbuf");
    let mut chain = mbuf.copy_to(&small).expect("a chain");
    let error = chain.linearize().expect_err("too long");
    assert_eq!(
        error.to_string(),
        "a packet of 193 bytes does not fit one segment of its pool: expected at most 192 bytes"
    );
    assert_eq!(chain.segments().map(<[u8]>::len).sum::<usize>(), 193, "unchanged");
}

#[test]
fn pools_are_refused_with_a_reason() {
    eal("0", &[]);
    let first = pool("taken", 15);
    let error = Mempool::create("taken", 15, 0, 2176, -1).expect_err("the name is taken");
    assert_eq!(error.to_string(), "mempool \"taken\" cannot be created: File exists (error 17)");
    drop(first);
    drop(pool("taken", 15));
    let error = Mempool::create("much_too_large", 1 << 24, 0, 2176, -1).expect_err("128 MiB");
    assert!(error.to_string().contains("Cannot allocate memory"), "{error}");
    let error =
        Mempool::create("a_name_that_is_longer_than_dpdk_takes", 15, 0, 2176, -1).expect_err("too long");
    assert!(error.to_string().contains("at most 25 bytes"), "{error}");
    assert!(Mempool::create("nul\0byte", 15, 0, 2176, -1).is_err());
    assert!(Mempool::create("no_room", 15, 0, 128, -1).is_err());
}
