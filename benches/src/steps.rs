//! Single steps of the datapath, for `cargo bench` (nanoseconds) and for callgrind (instructions).
//!
//! Throughput-like figures: keys and frames are in the first-level cache, and iterations may overlap.

use crate::traffic::{self, Flow};
use datapath::termination::{Termination, TunnelMatch};
use flow::cache::FlowCache;
use flow::hash::FlowHasher;
use flow::megaflow::{BURST, MegaflowTable, Slab};
use flow::program::PortId;
use std::hint::black_box;
use std::sync::Arc;
use wire::addr::MacAddr;
use wire::hot::hot_key;
use wire::key::{FlowKey, FlowMask};
use wire::parse::{Origin, extract_from};
use wire::tunnel::encap::{ENCAP_V4_LEN, EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
use wire::tunnel::udp4::Udp4Outer;
use wire::tunnel::{HeaderOptions, Transport, vxlan};

/// Different flows: their megaflows fit into the second-level cache.
const FLOWS: usize = 1024;

/// One step.
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Packets of one call of `run`.
    pub packets: usize,
    /// Does the step for all packets.
    pub run: Box<dyn FnMut()>,
}

impl Step {
    fn new(name: &'static str, packets: usize, run: impl FnMut() + 'static) -> Step {
        Step { name, packets, run: Box::new(run) }
    }
}

/// All steps, in the order of a packet's way.
pub fn all() -> Vec<Step> {
    let mut steps = vec![extraction(), hot_hash()];
    steps.extend(hashes());
    steps.push(cache_hit());
    steps.extend(
        [
            ("megaflow hit, 1 subtable", 1),
            ("megaflow hit, 5 subtables", 5),
            ("megaflow hit, 20 subtables", 20),
        ]
        .map(|(name, masks)| megaflow_hit(name, masks)),
    );
    steps.extend([encapsulation(), decapsulation()]);
    steps
}

fn frames(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|n| traffic::frame(&Flow::numbered(n), 60)).collect()
}

fn keys(n: usize) -> Vec<FlowKey> {
    let key = |frame: Vec<u8>| {
        let mut key = FlowKey::ZERO;
        extract_from(&frame, Origin::port(1), &mut key).expect("frames of our own are whole");
        key
    };
    frames(n).into_iter().map(key).collect()
}

fn extraction() -> Step {
    let frames = frames(BURST);
    let mut key = FlowKey::ZERO;
    Step::new("key extraction", BURST, move || {
        for frame in &frames {
            black_box(extract_from(black_box(frame), Origin::port(1), &mut key).is_ok());
            black_box(&key);
        }
    })
}

fn hot_hash() -> Step {
    let hasher = FlowHasher::new(1);
    let frames = frames(BURST);
    Step::new("flow hash of a frame", BURST, move || {
        for frame in &frames {
            black_box(hot_key(black_box(frame)).map(|words| hasher.hot_flow_hash(&words)));
        }
    })
}

fn hashes() -> [Step; 2] {
    let (hasher, cache_hasher) = (FlowHasher::new(1), FlowHasher::new(2));
    let of_flow = keys(BURST);
    let of_cache = of_flow.clone();
    [
        Step::new("flow hash of a key", BURST, move || {
            for key in &of_flow {
                black_box(hasher.flow_hash(black_box(key)));
            }
        }),
        Step::new("cache hash", BURST, move || {
            for key in &of_cache {
                black_box(cache_hasher.cache_hash(black_box(key)));
            }
        }),
    ]
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

fn megaflow_hit(name: &'static str, masks: usize) -> Step {
    let keys = keys(FLOWS);
    let mut table = table(&keys, masks);
    let mut hits = [0; BURST];
    Step::new(name, FLOWS, move || {
        for burst in keys.chunks(BURST) {
            table.lookup_burst(black_box(burst), &mut hits);
            black_box(&hits);
        }
    })
}

fn cache_hit() -> Step {
    let keys = keys(FLOWS);
    let table = table(&keys, 20);
    let mut cache = FlowCache::new(65_536);
    for (n, key) in keys.iter().enumerate() {
        let hash = cache.hash(key);
        cache.insert(hash, n as u32);
    }
    let (mut hashes, mut hits) = ([0; BURST], [0; BURST]);
    Step::new("cache hit", FLOWS, move || {
        for burst in keys.chunks(BURST) {
            for (hash, key) in hashes.iter_mut().zip(burst) {
                *hash = cache.hash(black_box(key));
            }
            let missed = cache.lookup_burst(&table, burst, &hashes, &mut hits);
            assert_eq!(missed, 0, "every key is in the cache");
        }
    })
}

fn encapsulation() -> Step {
    let spec = EncapSpec {
        eth_dst: MacAddr(traffic::vtep_mac(0)),
        eth_src: MacAddr(traffic::LOCAL_MAC),
        vlan_tci: None,
        addrs: EncapAddrs::V4(traffic::LOCAL_IP, traffic::vtep_ip(0)),
        udp_dst: traffic::VXLAN_PORT,
        df: true,
        format: &vxlan::FORMAT,
        options: HeaderOptions::NONE,
    };
    let fixed = EncapTemplate::new(&spec).fixed_v4().expect("untagged, IPv4, no checksum");
    let ready = fixed.ready(&EncapPatch { vni: 100, ttl: 64, ..EncapPatch::default() });
    let mut headers = [[0; ENCAP_V4_LEN]; BURST];
    Step::new("encapsulation", BURST, move || {
        for header in &mut headers {
            ready.write(black_box(header), black_box(60), black_box(50_000));
        }
    })
}

fn decapsulation() -> Step {
    let mut termination = Termination::default();
    let port = PortId(1);
    termination.add_underlay(MacAddr(traffic::LOCAL_MAC), vec![traffic::LOCAL_IP.into()], [port]);
    let of = TunnelMatch {
        vni: Some(traffic::vtep_vni(0)),
        remote: Some(traffic::vtep_ip(0).into()),
        local: None,
        transport: Transport::udp(traffic::VXLAN_PORT),
    };
    termination.add_tunnel(of, &vxlan::FORMAT, PortId(2)).expect("the only tunnel");
    let frames: Vec<Vec<u8>> = (0..BURST)
        .map(|n| traffic::vxlan_frame(&traffic::frame(&Flow::numbered(n), 60), 0, traffic::entropy_port(n)))
        .collect();
    Step::new("decapsulation", BURST, move || {
        let mut view = termination.view(port).expect("an underlay's port");
        for frame in &frames {
            let outer = Udp4Outer::read(black_box(frame.as_slice())).expect("the frames are good");
            assert!(view.takes(&outer), "the frames are for this VTEP");
            black_box(view.find_cached(&outer.tunnel()));
        }
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_every_step_runs() {
        let mut steps = super::all();
        for step in &mut steps {
            (step.run)();
        }
        let names: std::collections::BTreeSet<_> = steps.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), steps.len());
    }
}
