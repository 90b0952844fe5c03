//! The prefixes that the rules of a table have of one field.
//!
//! A binary trie with compressed paths. Values are left-aligned in 128 bits, whatever the field's width, so
//! that bit 0 is the most significant one of an IPv4 address, an IPv6 address or a port number alike.

/// A subtree, or nothing.
type Link = Option<Box<Node>>;

#[derive(Debug, Clone)]
struct Node {
    /// What the prefixes in this subtree have in common, zero behind `len` bits.
    prefix: u128,
    /// Length of `prefix`.
    len: u8,
    /// How often exactly this prefix was inserted; 0 where the trie only branches.
    count: u32,
    /// Bit `n - 1`: a prefix of length `n` is in this subtree.
    lengths: u128,
    /// By the bit behind `prefix`.
    children: [Link; 2],
}

/// A multiset of prefixes of lengths 1 to 128.
#[derive(Debug, Clone, Default)]
pub(super) struct Trie {
    root: Link,
}

/// The mask of the first `len` bits.
#[inline]
pub(super) fn leading(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// How many bits two values have in common before the first that differs.
#[inline]
fn common(a: u128, b: u128) -> u8 {
    (a ^ b).leading_zeros() as u8
}

/// The bit of `value` that follows the first `len`, as an index of [`Node::children`].
#[inline]
fn side(value: u128, len: u8) -> usize {
    (value >> (127 - u32::from(len)) & 1) as usize
}

/// The bit of a length in [`Node::lengths`].
#[inline]
fn length(len: u8) -> u128 {
    1 << (len - 1)
}

impl Trie {
    /// Adds the first `len` bits of `value`.
    pub(super) fn insert(&mut self, value: u128, len: u8) {
        let prefix = value & leading(len);
        let mut link = &mut self.root;
        while let Some(node) = link {
            let same = common(prefix, node.prefix).min(len);
            if same < node.len {
                // What both have in common becomes a node of its own, above this one.
                let branch = Node {
                    prefix: prefix & leading(same),
                    len: same,
                    count: 0,
                    lengths: node.lengths,
                    children: [None, None],
                };
                let below = std::mem::replace(node, Box::new(branch));
                let at = side(below.prefix, same);
                node.children[at] = Some(below);
            }
            node.lengths |= length(len);
            if node.len == len {
                node.count += 1;
                return;
            }
            let at = side(prefix, node.len);
            link = &mut node.children[at];
        }
        let children = [None, None];
        *link = Some(Box::new(Node { prefix, len, count: 1, lengths: length(len), children }));
    }

    /// Takes the first `len` bits of `value` away, once. They must have been inserted.
    pub(super) fn remove(&mut self, value: u128, len: u8) {
        Self::remove_from(&mut self.root, value & leading(len), len);
    }

    fn remove_from(link: &mut Link, prefix: u128, len: u8) {
        let Some(node) = link else { return };
        if node.len == len {
            node.count -= 1;
        } else {
            Self::remove_from(&mut node.children[side(prefix, node.len)], prefix, len);
        }
        if node.count == 0 && node.children.iter().flatten().count() < 2 {
            // Nothing branches here any more.
            *link = node.children.iter_mut().find_map(Option::take);
            return;
        }
        let own = if node.count > 0 { length(node.len) } else { 0 };
        node.lengths = node.children.iter().flatten().fold(own, |lengths, child| lengths | child.lengths);
    }

    /// What the trie has for `value`.
    pub(super) fn walk(&self, value: u128) -> Walk {
        let mut walk = Walk { covering: 0, needed: [0; 128] };
        // `open`: lengths about which the first `seen` bits have not decided.
        let (mut link, mut open, mut seen) = (&self.root, 0, 0);
        while let Some(node) = link {
            walk.exclude(open & !node.lengths, seen);
            open = node.lengths;
            let same = common(value, node.prefix);
            if same < node.len {
                seen = same + 1;
                break;
            }
            if node.count > 0 {
                walk.covering |= length(node.len);
                open &= !length(node.len);
            }
            if open == 0 {
                break;
            }
            link = &node.children[side(value, node.len)];
            seen = node.len + 1;
        }
        walk.exclude(open, seen);
        walk
    }
}

/// What a trie has for a value, about prefixes of each length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Bit `n - 1`: the value begins with a prefix of length `n`.
    covering: u128,
    /// By length less one, if not covering: how many bits it takes to see that.
    needed: [u8; 128],
}

impl Walk {
    /// It takes `bits` to see that no prefix of these lengths is one of the value's.
    #[inline]
    fn exclude(&mut self, mut lengths: u128, bits: u8) {
        while lengths != 0 {
            self.needed[lengths.trailing_zeros() as usize] = bits;
            lengths &= lengths - 1;
        }
    }

    /// How many leading bits of the value show that it begins with no prefix of length `len`: the fewest
    /// possible, and at most `len`. `None` when it does begin with one.
    #[inline]
    pub(super) fn excludes(&self, len: u8) -> Option<u8> {
        (self.covering & length(len) == 0).then(|| self.needed[usize::from(len) - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Addresses in which every bit position is decided by few bits of the seed, so that prefixes nest,
    /// part early and part late, and repeat.
    fn value(seed: u16) -> u128 {
        let spread = [0, 1, 2, 7, 8, 30, 31, 32, 63, 64, 65, 100, 126, 127];
        spread.iter().enumerate().fold(0, |v, (i, at)| v | u128::from(seed >> i & 1) << (127 - at))
    }

    fn prefix() -> impl Strategy<Value = (u128, u8)> {
        let lengths = prop::sample::select(vec![1, 2, 3, 8, 9, 31, 32, 33, 64, 65, 66, 100, 127, 128]);
        (any::<u16>(), lengths).prop_map(|(seed, len)| (value(seed), len))
    }

    /// [`Walk::excludes`], by trying.
    fn naive(prefixes: &[(u128, u8)], value: u128, len: u8) -> Option<u8> {
        let agrees = |bits| prefixes.iter().any(|(p, l)| *l == len && (p ^ value) & leading(bits) == 0);
        (0..=len).find(|bits| !agrees(*bits))
    }

    /// The invariants of a subtree; its number of nodes.
    fn check(link: &Link) -> usize {
        let Some(node) = link else { return 0 };
        assert_eq!(node.prefix & !leading(node.len), 0);
        let mut lengths = if node.count > 0 { length(node.len) } else { 0 };
        for (at, child) in node.children.iter().enumerate() {
            let Some(child) = child else { continue };
            assert!(child.len > node.len && side(child.prefix, node.len) == at);
            assert!(common(child.prefix, node.prefix) >= node.len);
            lengths |= child.lengths;
        }
        assert_eq!(lengths, node.lengths);
        assert!(node.count > 0 || node.children.iter().all(Option::is_some), "a node too many");
        1 + node.children.iter().map(check).sum::<usize>()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn excludes_by_the_fewest_bits(
            inserted in prop::collection::vec(prefix(), 0..40),
            removals in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            asked in prop::collection::vec(prefix(), 40),
        ) {
            let mut list = inserted;
            let mut trie = Trie::default();
            for (value, len) in &list {
                trie.insert(*value, *len);
                check(&trie.root);
            }
            let compare = |trie: &Trie, list: &[(u128, u8)]| {
                // What is asked for, and values near those that are in the trie.
                for (value, len) in asked.iter().chain(list) {
                    assert_eq!(trie.walk(*value).excludes(*len), naive(list, *value, *len));
                    let near = value ^ 1 << (128 - len);
                    assert_eq!(trie.walk(near).excludes(*len), naive(list, near, *len));
                }
            };
            compare(&trie, &list);
            for at in removals {
                if !list.is_empty() {
                    let (value, len) = list.swap_remove(at.index(list.len()));
                    trie.remove(value, len);
                    check(&trie.root);
                }
            }
            compare(&trie, &list);
            for (value, len) in list {
                trie.remove(value, len);
            }
            prop_assert_eq!(check(&trie.root), 0);
        }
    }

    #[test]
    fn compressed() {
        let mut trie = Trie::default();
        for i in 0..100 {
            trie.insert(i << 3 | 0xfd << 120, 128);
            trie.insert(i << 3 | 0xfd << 120, 128);
        }
        assert_eq!(check(&trie.root), 199, "a leaf for each value, a branch between each two neighbours");
        assert_eq!(trie.walk(0).excludes(128), Some(1));
        assert_eq!(trie.walk(0).excludes(127), Some(0), "there is nothing of that length");
    }
}
