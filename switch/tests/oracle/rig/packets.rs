//! Packets go through the switch and through the oracle, and what both send is compared.

use super::{DIVIDED, MAX_TRIALS, Rig};
use crate::compare::{compare_flows, hex, is_same, l4_of, report};
use crate::counted::{Counted, Received};
use crate::frames::{Outer, tunnelled};
use crate::outer::{LONG, divided, is_divisible, may_be_divided, reassembled};
use crate::plan::UNDERLAY_MAC;
use flow::ofp::FlowFilter;
use oracle::{Entry, Output, Outputs, World};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use wire::parse::Anomaly;

impl Rig<'_> {
    /// A packet of a plan's frame; one that is to have several segments is so long that all headers are in the first.
    pub(super) fn packet(&mut self, frame: usize, outer: Option<Outer>, is_chain: bool) -> Vec<u8> {
        const CHAIN: usize = 320;
        self.sent += 1;
        let mut inner = self.plan.frames[frame].bytes(self.sent);
        if self.plan.mtu < 1500 && may_be_divided(&self.plan.frames[frame]) {
            inner.resize(LONG, 0x5a);
        } else if is_chain {
            inner.resize(CHAIN, 0x5a);
        }
        outer.map_or_else(|| inner.clone(), |outer| tunnelled(outer, UNDERLAY_MAC, &inner))
    }

    /// Puts a packet into a port, and gives it segments that begin at these offsets, if there are any.
    pub(super) fn put(&mut self, port: &str, bytes: &[u8], cuts: &[usize]) {
        let mtu = self.plan.mtu;
        if port.starts_with("up") && is_divisible(bytes, mtu) {
            self.datagrams = self.datagrams.wrapping_add(1);
            for fragment in divided(bytes, mtu, self.datagrams) {
                self.net.put(port, &fragment);
            }
        } else if cuts.is_empty() {
            self.net.put(port, bytes);
        } else {
            self.net.put_chain(port, bytes, cuts);
        }
    }

    /// What the switch has counted of rules and malformed headers.
    pub(super) fn counted(&mut self) -> Counted {
        self.net.slow.collect_all();
        let mut counted = Counted::default();
        for (at, bridge) in self.world.bridges.iter().enumerate() {
            let id = self.net.slow.state.bridge_named(&bridge.name).expect("bridge");
            let tables = &self.net.slow.state.bridge(id).expect("bridge").tables;
            for rule in tables.select(&FlowFilter::default(), false) {
                counted.rules.insert((at, rule.spec.table, rule.spec.priority), rule.stats().packets);
            }
        }
        let malformed =
            |kind: &Anomaly| self.net.all_counters.iter().map(|c| c.anomalies(*kind)).sum::<u64>();
        counted.malformed = Anomaly::ALL.iter().map(malformed).sum();
        counted
    }

    /// Lets the switch run and takes what came out.
    pub(super) fn take(&mut self) -> Received {
        let before = self.counted();
        let frames = self.sent_by_port();
        let mut counted = self.counted();
        counted.malformed -= before.malformed;
        for (rule, packets) in &mut counted.rules {
            *packets -= before.rules.get(rule).copied().unwrap_or(0);
        }
        counted.rules.retain(|_, packets| *packets > 0);
        Received { frames, counted }
    }

    pub(super) fn sent_by_port(&mut self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut actual = self.net.send("", &[]);
        // The switch asks its neighbours for a sign of life of its own accord.
        for (port, frames) in &mut actual {
            frames.retain(|frame| frame[6..14] != [&UNDERLAY_MAC[..], &[8, 6]].concat());
            if port.starts_with("up") {
                let taken = std::mem::take(frames);
                let (whole, divided) =
                    reassembled(taken, self.plan.mtu).unwrap_or_else(|what| panic!("by {port}: {what}"));
                DIVIDED.fetch_add(divided, Relaxed);
                *frames = whole;
            }
        }
        actual
    }

    /// What the oracle sends for a packet. Fragments are bridged to the underlay's own addresses, which learns where they come from.
    pub(super) fn receive(&self, world: &mut World, port: &str, bytes: &[u8], given: &[usize]) -> Outputs {
        if port.starts_with("up") && is_divisible(bytes, self.plan.mtu) {
            let underlay =
                world.bridges.iter_mut().find(|bridge| !bridge.addresses.is_empty()).expect("underlay");
            let source: [u8; 6] = bytes[6..12].try_into().expect("six bytes");
            let entry = Entry { port: port.to_owned(), remote: None, fixed: false };
            underlay.fdb.insert((0, source), entry);
        }
        world.receive(port, bytes, given)
    }

    /// What the oracle sends for a packet, if the buckets that its flow takes are known, and its state then.
    pub(super) fn foresee(&self, port: &str, frame: usize, bytes: &[u8]) -> Option<(Outputs, World)> {
        let mut given = Vec::new();
        for _ in 0..MAX_TRIALS {
            let mut world = self.world.clone();
            let out = self.receive(&mut world, port, bytes, &given);
            let is_known = |choice: &oracle::pipeline::Choice| {
                let key = (frame, choice.bridge, choice.group, self.generation);
                self.buckets.get(&key) == Some(&choice.taken)
            };
            if out.choices.iter().all(is_known) {
                return Some((out, world));
            }
            if !next(&mut given, &out.choices) {
                break;
            }
        }
        None
    }

    /// Sends packets of several flows to both at once, and compares what comes out, flow by flow.
    ///
    /// A packet that hits a megaflow does not wait for one in front of it that misses, nor sees what that one teaches.
    /// So what changes the oracle's state, or takes an unknown bucket, is sent by itself first; the others are not, and
    /// miss in the midst of those that hit. A burst in which an address keeps moving has no one right outcome.
    pub(super) fn burst(
        &mut self,
        port: &str,
        packets: &[(usize, Option<Outer>)],
        cuts: &[Vec<usize>],
    ) -> Result<(), String> {
        if self.world.port(port).is_none() {
            return Ok(());
        }
        let mut flows: Vec<(usize, Option<Outer>)> = Vec::new();
        let mut numbers = Vec::new();
        let mut segments: Vec<&[usize]> = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            numbers.push(flows.iter().position(|flow| flow == packet).unwrap_or_else(|| {
                flows.push(*packet);
                flows.len() - 1
            }));
            // More bytes would mend what is cut off.
            let is_whole = self.plan.frames[packet.0].cut == 0;
            segments.push(if is_whole && !cuts.is_empty() { &cuts[n % cuts.len()] } else { &[] });
        }
        for _ in 0..2 {
            for (flow, &(frame, outer)) in flows.iter().enumerate() {
                let first = numbers.iter().position(|n| *n == flow).expect("its first packet");
                let bytes = self.packet(frame, outer, !segments[first].is_empty());
                if self.foresee(port, frame, &bytes).is_none_or(|(_, world)| world != self.world) {
                    self.send(port, frame, &[bytes], segments[first])?;
                }
            }
        }
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        for ((frame, outer), cuts) in packets.iter().zip(&segments) {
            let bytes = self.packet(*frame, *outer, !cuts.is_empty());
            match self.foresee(port, *frame, &bytes) {
                Some((out, world)) if world == self.world => expected.push(out),
                _ => return Ok(()),
            }
            sent.push(bytes);
        }
        self.frames += sent.len();
        for (bytes, cuts) in sent.iter().zip(&segments) {
            self.put(port, bytes, cuts);
        }
        let actual = self.take();
        let mut source_ports = self.source_ports.clone();
        let frames: Vec<usize> = flows.iter().map(|(frame, _)| *frame).collect();
        let different = compare_flows((&numbers, &frames), &expected, &actual.frames, &mut source_ports);
        match different.or_else(|| actual.miscounted(&expected)) {
            None => self.source_ports = source_ports,
            Some(what) => {
                let sent: Vec<String> = sent.iter().map(|b| hex(b)).collect();
                return Err(format!("sent to {port}: {}\n{what}", sent.join("\n")));
            }
        }
        Ok(())
    }

    /// Sends frames of one flow to both, and compares what comes out.
    pub(super) fn send(
        &mut self,
        port: &str,
        frame: usize,
        bytes: &[Vec<u8>],
        cuts: &[usize],
    ) -> Result<(), String> {
        if self.world.port(port).is_none() {
            return Ok(());
        }
        self.frames += bytes.len();
        for bytes in bytes {
            self.put(port, bytes, cuts);
        }
        let actual = self.take();
        let mut first = None;
        let mut given: Vec<usize> = Vec::new();
        // The first trial that comes out right and agrees with what the flow's buckets were before.
        for _ in 0..MAX_TRIALS {
            let mut world = self.world.clone();
            let expected: Vec<Outputs> =
                bytes.iter().map(|frame| self.receive(&mut world, port, frame, &given)).collect();
            let difference =
                self.compare(frame, &expected, &actual.frames).or_else(|| actual.miscounted(&expected));
            if difference.is_none() {
                self.accept(frame, &expected, &actual.frames, world);
                return Ok(());
            }
            first = first.or(difference);
            let choices = expected.first().map(|out| out.choices.clone()).unwrap_or_default();
            if !next(&mut given, &choices) {
                break;
            }
        }
        let sent: Vec<String> = bytes.iter().map(|b| hex(b)).collect();
        Err(format!("sent to {port}: {}\n{}", sent.join("\n"), first.unwrap_or_default()))
    }

    /// Says what is different, if anything is.
    pub(super) fn compare(
        &self,
        frame: usize,
        expected: &[Outputs],
        actual: &BTreeMap<String, Vec<Vec<u8>>>,
    ) -> Option<String> {
        for choice in expected.iter().flat_map(|out| &out.choices) {
            let key = (frame, choice.bridge, choice.group, self.generation);
            if self.buckets.get(&key).is_some_and(|before| *before != choice.taken) {
                return Some(format!("a flow changed its bucket in group {}", choice.group));
            }
        }
        let unordered = expected.iter().any(|out| out.unordered);
        let mut by_port: BTreeMap<&str, Vec<&Output>> = BTreeMap::new();
        for output in expected.iter().flat_map(|out| &out.frames) {
            by_port.entry(&output.port).or_default().push(output);
        }
        let mut source_port = self.source_ports.get(&frame).copied();
        let mut ports: Vec<&str> = by_port.keys().copied().chain(actual.keys().map(String::as_str)).collect();
        ports.dedup();
        for port in ports {
            let mut left: Vec<Vec<u8>> = actual.get(port).cloned().unwrap_or_default();
            let mut wrong = None;
            for output in by_port.get(port).into_iter().flatten() {
                let found = left.iter().position(|got| is_same(output, got, &mut source_port));
                match found {
                    Some(at) if at == 0 || unordered => drop(left.remove(at)),
                    _ => {
                        wrong = Some(&output.bytes);
                        break;
                    }
                }
            }
            if wrong.is_some() || !left.is_empty() {
                return Some(report(port, by_port.get(port), actual.get(port)));
            }
        }
        None
    }

    pub(super) fn accept(
        &mut self,
        frame: usize,
        expected: &[Outputs],
        actual: &BTreeMap<String, Vec<Vec<u8>>>,
        world: World,
    ) {
        self.world = world;
        for choice in expected.iter().flat_map(|out| &out.choices) {
            self.buckets.insert((frame, choice.bridge, choice.group, self.generation), choice.taken);
        }
        for output in
            expected.iter().flat_map(|out| &out.frames).filter(|o| o.header.is_some_and(|header| header.udp))
        {
            let got = actual
                .get(&output.port)
                .into_iter()
                .flatten()
                .find(|got| is_same(output, got, &mut self.source_ports.get(&frame).copied()));
            if let (Some(got), Some(at)) = (got, l4_of(output)) {
                self.source_ports.insert(frame, [got[at], got[at + 1]]);
            }
        }
    }
}

/// The next combination of choices; false after the last one.
fn next(given: &mut Vec<usize>, choices: &[oracle::pipeline::Choice]) -> bool {
    given.resize(choices.len(), 0);
    while let Some(last) = given.pop() {
        if last + 1 < choices[given.len()].buckets.len() {
            given.push(last + 1);
            return true;
        }
    }
    false
}
