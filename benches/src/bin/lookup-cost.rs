//! What a lookup costs: time-stamp-counter cycles a packet, for bursts of 32 from one in-port.
//!
//! ```text
//! cargo run --release -p vxswitch-benches --bin lookup-cost ["PART OF A LINE, AS IN '1000 20'"]
//! ```
//! Keys are copied to a buffer in the first-level cache before each burst, as extraction leaves them there,
//! and the clock is read around the burst alone, so the figures are a little high. Packets pick their flow at
//! random. Each figure is the minimum over the rounds. `lookup` is the lookup alone, `and account` adds reading the program and counting.

use core::hint::black_box;
use flow::cache::{DEFAULT_FLOWS, FlowCache, Lookup};
use flow::megaflow::{BURST, MISS, MegaflowTable, Slab};
use rte::cycles;
use std::sync::Arc;
use vxswitch::control::sys::back_with_huge_pages;
use wire::key::{FlowKey, FlowMask};

/// Packets of a round.
const ROUND: usize = 1 << 16;
const ROUNDS: usize = 15;

/// How a case looks up.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Table,
    Cache(usize),
}

/// xorshift64: which flow a packet is of.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Mask `number` of a port with several: all the words of 20 different ones, MAC addresses, prefixes, ports.
fn mask(number: usize) -> FlowMask {
    let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
    mask.dl_dst.0 = [0xff; 6];
    if number % 4 != 1 {
        mask.dl_src.0 = [0xff; 6];
    }
    if number >= 1 {
        mask.dl_type = u16::MAX.into();
        mask.nw_dst = (u32::MAX << (number % 5)).into();
    }
    if number >= 5 {
        mask.nw_proto = 0xff;
        mask.tp_dst = (u16::MAX << (number / 5)).into();
    }
    mask
}

fn key(flow: u32) -> FlowKey {
    let mut key = FlowKey { in_port: 1, nw_proto: 6, nw_ttl: 64, ..FlowKey::ZERO };
    key.dl_dst.0[2..].copy_from_slice(&flow.to_be_bytes());
    key.dl_src.0[2..].copy_from_slice(&(flow ^ 0x5a5a).to_be_bytes());
    key.dl_type = 0x0800.into();
    key.nw_src = (0x0a00_0000 + flow).into();
    key.nw_dst = (0x0b00_0000 + flow).into();
    key.tp_src = 1000.into();
    key.tp_dst = (flow as u16).into();
    key
}

fn case(name: &str, flows: u32, masks: usize, answer: Answer, overhead: u64) {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if !format!("{name} {flows} {masks}").contains(&wanted) {
        return;
    }
    let slab = Arc::new(Slab::new(flows as usize));
    let table = MegaflowTable::new(slab, 16);
    let flows_cached = if let Answer::Cache(flows_cached) = answer { flows_cached } else { 8 };
    let mut lookup = Lookup::new(table, FlowCache::new(flows_cached));
    lookup.table.regions().into_iter().for_each(back_with_huge_pages);
    back_with_huge_pages(lookup.cache.region());
    let keys: Vec<FlowKey> = (0..flows).map(key).collect();
    for (slot, key) in keys.iter().enumerate() {
        let mask =
            if masks == 0 { FlowMask { in_port: u32::MAX, ..FlowMask::ZERO } } else { mask(slot % masks) };
        let inserted = lookup.table.insert(slot as u32, key, &mask, slot as u32);
        assert!(inserted.is_ok(), "{inserted:?}");
    }
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut burst = [FlowKey::ZERO; BURST];
    let mut hits = [MISS; BURST];
    let mut programs = [0; BURST];
    let mut best = [u64::MAX; 2];
    // Everything once, so that the cache knows every flow that it has room for.
    for keys in keys.chunks(BURST) {
        lookup.classify(keys, &mut hits[..keys.len()]);
    }
    for round in 0..ROUNDS * 2 {
        let account = round % 2 == 1;
        let mut sum = 0;
        for _ in 0..ROUND / BURST {
            for slot in &mut burst {
                *slot = keys[(random(&mut state) % u64::from(flows)) as usize];
            }
            let start = cycles();
            match answer {
                Answer::Table => lookup.table.lookup_burst(&burst, &mut hits),
                Answer::Cache(_) => lookup.classify(&burst, &mut hits),
            }
            if account {
                lookup.table.take_burst(&hits, &[64; BURST], &mut programs);
                black_box(&programs);
            }
            sum += (cycles() - start).saturating_sub(overhead);
        }
        assert!(hits.iter().all(|&hit| hit != MISS), "a flow was not found");
        best[usize::from(account)] = best[usize::from(account)].min(sum);
        if masks > 1 {
            lookup.table.resort();
        }
    }
    let [alone, all] = best.map(|cycles| cycles as f64 / ROUND as f64);
    println!("{name:<34} {flows:>9} {masks:>6} {alone:>8.1} {all:>12.1}");
}

fn main() {
    let overhead = (0..10_000).map(|_| cycles().abs_diff(cycles())).min().unwrap_or(0);
    println!("clock: {overhead} cycles a burst, subtracted");
    println!("{:<34} {:>9} {:>6} {:>8} {:>12}", "case", "flows", "masks", "lookup", "and account");
    case("in-port only", 1, 0, Answer::Table, overhead);
    case("in-port only, through the front", 1, 0, Answer::Cache(DEFAULT_FLOWS), overhead);
    for flows in [1, 1_000, 60_000, 1_000_000] {
        case("table", flows, 1, Answer::Table, overhead);
    }
    case("table, through the front", 60_000, 1, Answer::Cache(DEFAULT_FLOWS), overhead);
    for masks in [2, 3, 5, 20] {
        for flows in [1_000, 60_000] {
            case("table", flows, masks, Answer::Table, overhead);
            case("cache for 64 Ki", flows, masks, Answer::Cache(DEFAULT_FLOWS), overhead);
        }
    }
    case("cache for 16 Ki", 60_000, 20, Answer::Cache(16 << 10), overhead);
    case("cache for 1 Mi", 1_000_000, 20, Answer::Cache(1 << 20), overhead);
}
