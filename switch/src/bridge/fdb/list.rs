//! Doubly linked lists through the entries of one slab: each entry can be in one list of each kind, and leaves it in
//! constant time.

/// Number that no entry has.
const NONE: u32 = u32::MAX;

/// An entry's neighbours in a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// In no list.
    pub(super) const NONE: Link = Link { prev: NONE, next: NONE };
}

/// A list: its first and last entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    /// Nothing.
    pub(super) const EMPTY: List = List { head: NONE, tail: NONE };

    /// The first entry.
    pub(super) fn front(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Appends an entry that is in no list of this kind; `link` finds an entry's links of the kind.
    pub(super) fn push_back<T>(&mut self, slab: &mut [T], at: u32, link: impl Fn(&mut T) -> &mut Link) {
        *link(&mut slab[at as usize]) = Link { prev: self.tail, next: NONE };
        if self.tail == NONE {
            self.head = at;
        } else {
            link(&mut slab[self.tail as usize]).next = at;
        }
        self.tail = at;
    }

    /// Takes an entry out that is in this list.
    pub(super) fn remove<T>(&mut self, slab: &mut [T], at: u32, link: impl Fn(&mut T) -> &mut Link) {
        let Link { prev, next } = std::mem::replace(link(&mut slab[at as usize]), Link::NONE);
        if prev == NONE {
            self.head = next;
        } else {
            link(&mut slab[prev as usize]).next = next;
        }
        if next == NONE {
            self.tail = prev;
        } else {
            link(&mut slab[next as usize]).prev = prev;
        }
    }
}
