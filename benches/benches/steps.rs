//! Single steps of the datapath, in nanoseconds: `cargo bench -p vxswitch-benches`.
//!
//! Throughput-like figures: keys and frames are in the first-level cache, and iterations may overlap.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flow::cache::FlowCache;
use flow::hash::{cache_hash, flow_hash};
use flow::megaflow::{BURST, MegaflowTable, Slab};
use flow::program::PortId;
use std::hint::black_box;
use std::sync::Arc;
use vxswitch::tunnel::termination::{Termination, TunnelMatch};
use vxswitch_benches::traffic::{self, Flow};
use wire::addr::MacAddr;
use wire::encap::{ENCAP_V4_LEN, EncapAddrs, EncapExt, EncapPatch, EncapSpec, EncapTemplate};
use wire::key::{FlowKey, FlowMask};
use wire::plain::PlainOuter;

/// Different flows: their megaflows fit into the second-level cache.
const FLOWS: usize = 1024;

fn keys(n: usize) -> Vec<FlowKey> {
    (0..n)
        .map(|n| {
            let frame = traffic::frame(&Flow::numbered(n), 60);
            let mut key = FlowKey { in_port: 1, ..FlowKey::ZERO };
            wire::parse::extract(&frame, &mut key).expect("frames of our own are whole");
            key
        })
        .collect()
}

fn extraction(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    let frames: Vec<Vec<u8>> = (0..BURST).map(|n| traffic::frame(&Flow::numbered(n), 60)).collect();
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("extraction", |b| {
        let mut key = FlowKey { in_port: 1, ..FlowKey::ZERO };
        b.iter(|| {
            for frame in &frames {
                black_box(wire::parse::extract(black_box(frame), &mut key).is_ok());
                black_box(&key);
            }
        });
    });
    let keys = keys(BURST);
    group.bench_function("flow hash", |b| {
        b.iter(|| keys.iter().map(|key| flow_hash(black_box(key))).fold(0, |a, h| a ^ h));
    });
    group.bench_function("cache hash", |b| {
        b.iter(|| keys.iter().map(|key| cache_hash(black_box(key))).fold(0, |a, h| a ^ h));
    });
    group.finish();
}

/// Mask `number`: each sees a longer prefix of the destination, and ports and source in full.
fn mask(number: usize) -> FlowMask {
    FlowMask {
        in_port: u32::MAX,
        nw_src: u32::MAX.into(),
        nw_dst: (u32::MAX << (31 - number as u32)).into(),
        tp_src: u16::MAX.into(),
        ..FlowMask::ZERO
    }
}

/// A table where flow `n` has a megaflow under mask `n` modulo `masks`.
fn table(keys: &[FlowKey], masks: usize) -> MegaflowTable {
    let mut table = MegaflowTable::new(Arc::new(Slab::new(2 * keys.len())), 16);
    for (n, key) in keys.iter().enumerate() {
        let mask = mask(n % masks);
        table.insert(n as u32, &key.masked(&mask), &mask, 1).expect("there is room");
    }
    table
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    let keys = keys(FLOWS);
    group.throughput(Throughput::Elements(FLOWS as u64));
    for masks in [1, 5, 20] {
        let mut table = table(&keys, masks);
        let mut hits = [0; BURST];
        group.bench_function(format!("megaflow hit, {masks} subtables"), |b| {
            b.iter(|| {
                for burst in keys.chunks(BURST) {
                    table.lookup_burst(black_box(burst), &mut hits);
                    black_box(&hits);
                }
            });
        });
    }
    let table = table(&keys, 20);
    let mut cache = FlowCache::new(65_536);
    for (n, key) in keys.iter().enumerate() {
        cache.insert(cache_hash(key), n as u32);
    }
    let (mut hashes, mut hits) = ([0; BURST], [0; BURST]);
    group.bench_function("cache hit", |b| {
        b.iter(|| {
            for burst in keys.chunks(BURST) {
                for (hash, key) in hashes.iter_mut().zip(burst) {
                    *hash = cache_hash(black_box(key));
                }
                let missed = cache.lookup_burst(&table, burst, &hashes, &mut hits);
                assert_eq!(missed, 0, "every key is in the cache");
            }
        });
    });
    group.finish();
}

fn tunnels(c: &mut Criterion) {
    let mut group = c.benchmark_group("tunnel");
    let spec = EncapSpec {
        eth_dst: MacAddr(traffic::vtep_mac(0)),
        eth_src: MacAddr(traffic::LOCAL_MAC),
        vlan_tci: None,
        addrs: EncapAddrs::V4(traffic::LOCAL_IP, traffic::vtep_ip(0)),
        udp_dst: traffic::VXLAN_PORT,
        df: true,
        csum: false,
        ext: EncapExt::None,
    };
    let fixed = EncapTemplate::new(&spec).fixed_v4().expect("untagged, IPv4, no checksum");
    let patch = EncapPatch { src_port: 50_000, vni: 100, ttl: 64, ..EncapPatch::default() };
    let mut header = [0; ENCAP_V4_LEN];
    group.throughput(Throughput::Elements(1));
    group.bench_function("encapsulation", |b| {
        b.iter(|| fixed.write(black_box(&mut header), black_box(60), black_box(&patch)));
    });

    let mut termination = Termination::default();
    let port = PortId(1);
    termination.add_underlay(MacAddr(traffic::LOCAL_MAC), vec![traffic::LOCAL_IP.into()], [port]);
    let of = TunnelMatch {
        vni: Some(traffic::vtep_vni(0)),
        remote: Some(traffic::vtep_ip(0).into()),
        local: None,
        dst_port: traffic::VXLAN_PORT,
    };
    termination.add_tunnel(of, EncapExt::None, PortId(2)).expect("the only tunnel");
    let frames: Vec<Vec<u8>> = (0..BURST)
        .map(|n| traffic::vxlan_frame(&traffic::frame(&Flow::numbered(n), 60), 0, traffic::entropy_port(n)))
        .collect();
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("decapsulation", |b| {
        b.iter(|| {
            let mut intake = termination.intake(port).expect("an underlay's port");
            for frame in &frames {
                let outer = PlainOuter::read(black_box(frame.as_slice())).expect("the frames are good");
                assert!(intake.takes(&outer), "the frames are for this VTEP");
                black_box(intake.recall(&outer));
            }
        });
    });
    group.finish();
}

criterion_group!(steps, extraction, lookup, tunnels);
criterion_main!(steps);
