//! How changes become ops: before a packet is sent, every field and tag that actions have changed since the last
//! time is set in it.

use super::{Op, Translator};
use flow::ofp::{Field, Layer, MatchKey};
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_ICMP, IP_ICMPV6};

/// A tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OneTag {
    /// EtherType of the tag; `None` for one of the packet's own, which keeps it.
    tpid: Option<u16>,
    /// TCI without the CFI bit.
    tci: u16,
}

/// The tags of a packet, as far as they are not its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// In front of the packet's own tags, the outermost one last. Only the first can be one of its own, with another TCI.
    front: Vec<OneTag>,
    /// How many of its own tags are gone, or in `front`.
    gone: usize,
}

impl Tags {
    /// Puts a tag in front.
    pub(super) fn push(&mut self, tpid: u16, tci: u16) {
        self.front.push(OneTag { tpid: Some(tpid), tci });
    }

    /// Takes the outermost tag off.
    pub(super) fn pop(&mut self) {
        if self.front.pop().is_none() {
            self.gone += 1;
        }
    }

    /// Gives the outermost tag another TCI.
    pub(super) fn edit(&mut self, tci: u16) {
        if let Some(tag) = self.front.last_mut() {
            tag.tci = tci;
        } else {
            self.gone += 1;
            self.front.push(OneTag { tpid: None, tci });
        }
    }

    /// The ops that make a packet with tags `self` one with tags `to`, which has no fewer of its own gone.
    fn ops(&self, to: &Tags) -> Vec<Op> {
        let mut ops = Vec::new();
        let push =
            |tag: &OneTag| Op::PushVlan { tpid: tag.tpid.unwrap_or(wire::proto::ETH_VLAN), tci: tag.tci };
        let own = to.gone - self.gone.min(to.gone);
        if own == 0 {
            let same = self.front.iter().zip(&to.front).take_while(|(a, b)| a == b).count();
            // One that differs in its TCI alone stays, too, once what is on top of it has gone.
            let kept = match (self.front.get(same), to.front.get(same)) {
                (Some(a), Some(b)) if a.tpid == b.tpid => Some(b.tci),
                _ => None,
            };
            let stay = same + usize::from(kept.is_some());
            ops.extend((stay..self.front.len()).map(|_| Op::PopVlan));
            ops.extend(kept.map(Op::SetVlan));
            ops.extend(to.front[stay.min(to.front.len())..].iter().map(push));
            return ops;
        }
        ops.extend(self.front.iter().map(|_| Op::PopVlan));
        if let Some((OneTag { tpid: None, tci }, rest)) = to.front.split_first() {
            ops.extend((1..own).map(|_| Op::PopVlan));
            ops.push(Op::SetVlan(*tci));
            ops.extend(rest.iter().map(push));
        } else {
            ops.extend((0..own).map(|_| Op::PopVlan));
            ops.extend(to.front.iter().map(push));
        }
        ops
    }
}

impl Translator<'_> {
    /// Makes the packet what actions have made of it so far.
    pub(in crate::bridge) fn commit(&mut self) {
        let tags = self.at.tags.clone();
        self.commit_tags(&tags);
        if self.at.dirty != MatchKey::ZERO {
            self.commit_fields();
            self.at.dirty = MatchKey::ZERO;
        }
    }

    /// Makes the packet's tags these.
    pub(super) fn commit_tags(&mut self, to: &Tags) {
        if self.at.sent != *to {
            for op in self.at.sent.ops(to) {
                self.push_edit(op);
            }
            self.at.sent = to.clone();
        }
    }

    /// Sets those fields of which a bit has changed; the other bits that the op sets are looked at.
    fn commit_fields(&mut self) {
        let (dl_type, nw_proto) = (self.at.key.flow.dl_type.get(), self.at.key.flow.nw_proto);
        let (v4, v6) = (dl_type == ETH_IPV4, dl_type == ETH_IPV6);
        let (ip, icmp) = (v4 || v6, matches!(nw_proto, IP_ICMP | IP_ICMPV6));
        let dirty = self.at.dirty;
        for setter in Field::setters().iter().filter(|setter| setter.get(&dirty) != 0) {
            // What the bits mean depends on the protocol, which whoever set one has looked at.
            let there = match setter.layer {
                Layer::Ethernet => true,
                Layer::Arp => !ip,
                Layer::Ipv4 => v4,
                Layer::Ipv6 => v6,
                Layer::Ip | Layer::Nd => ip,
                Layer::Icmp => ip && icmp,
                Layer::Transport => ip && !icmp,
                Layer::Register | Layer::Port | Layer::Tunnel | Layer::Vlan => false,
            };
            if there {
                let mut bits = MatchKey::ZERO;
                setter.mark(&mut bits);
                self.look(&bits);
                // All bits are the same for every packet now.
                self.at.set.or(&bits);
                self.push_edit(setter.op(setter.get(&self.at.key)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet's tags by trial: `(tpid, tci)`, the outermost last.
    fn run(own: &[(u16, u16)], ops: &[Op]) -> Vec<(u16, u16)> {
        let mut tags = own.to_vec();
        for op in ops {
            match op {
                Op::PushVlan { tpid, tci } => tags.push((*tpid, *tci)),
                Op::PopVlan => drop(tags.pop()),
                Op::SetVlan(tci) => {
                    if let Some(tag) = tags.last_mut() {
                        tag.1 = *tci;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        tags
    }

    proptest! {
        /// However often ops are made on the way, the packet ends with the tags that the actions gave it.
        #[test]
        fn ops_make_the_tags_that_actions_made(steps in prop::collection::vec((0u8..4, 0u16..4, any::<bool>()), 0..12)) {
            let own = [(0x88a8, 7), (0x8100, 8), (0x8100, 9)];
            let (mut naive, mut packet) = (own.to_vec(), own.to_vec());
            let (mut tags, mut sent) = (Tags::default(), Tags::default());
            for (step, value, commit) in steps {
                match step {
                    0 => { tags.push(0x8100, value); naive.push((0x8100, value)); }
                    1 => { tags.push(0x88a8, value); naive.push((0x88a8, value)); }
                    2 if !naive.is_empty() => { tags.pop(); naive.pop(); }
                    3 if !naive.is_empty() => { tags.edit(value); if let Some(tag) = naive.last_mut() { tag.1 = value; } }
                    _ => {}
                }
                if commit {
                    packet = run(&packet, &sent.ops(&tags));
                    sent = tags.clone();
                    prop_assert_eq!(&packet, &naive);
                }
            }
            prop_assert_eq!(run(&packet, &sent.ops(&tags)), naive);
        }
    }
}
