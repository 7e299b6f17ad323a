//! A bounded map that knows which of its entries is the oldest.
//!
//! Purpose: one eviction rule for everything that the wire can fill: the oldest goes, in O(1).
//! Invariants: `index` and the age list hold the same entries; never more than `capacity` of them;
//! order depends on the calls alone, never on the hash seed.
//! Non-goals: time (callers keep it in the value) and concurrency.
//! Sources: none; a hash map over a slab with an intrusive doubly linked list.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// No neighbour.
const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    older: usize,
    newer: usize,
}

/// A map of at most `capacity` entries with an order of age.
#[derive(Debug)]
pub struct AgedMap<K, V> {
    index: HashMap<K, usize, RandomState>,
    nodes: Vec<Option<Node<K, V>>>,
    free: Vec<usize>,
    oldest: usize,
    newest: usize,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V> AgedMap<K, V> {
    /// An empty map; it allocates as it fills.
    pub fn new(capacity: usize) -> Self {
        Self {
            index: HashMap::default(),
            nodes: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            capacity,
        }
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True when the key has an entry.
    pub fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let node = self.nodes.get(*self.index.get(key)?)?.as_ref()?;
        Some(&node.value)
    }

    /// The value of a key, to change; its age stays.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let node = self.nodes.get_mut(*self.index.get(key)?)?.as_mut()?;
        Some(&mut node.value)
    }

    /// The keys, the oldest first.
    pub fn keys_by_age(&self) -> Vec<K> {
        let (mut keys, mut slot) = (Vec::with_capacity(self.len()), self.oldest);
        while let Some(node) = self.nodes.get(slot).and_then(Option::as_ref) {
            keys.push(node.key);
            slot = node.newer;
        }
        keys
    }

    /// True when nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The oldest entry.
    pub fn oldest(&self) -> Option<(&K, &V)> {
        let node = self.nodes.get(self.oldest)?.as_ref()?;
        Some((&node.key, &node.value))
    }

    /// Adds an entry as the newest and returns the one that had to go for it: the former value of
    /// the same key, or the oldest entry of a full map.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        let gone = match self.remove(&key) {
            Some(former) => Some((key, former)),
            None if self.len() >= self.capacity => self.pop_oldest(),
            None => None,
        };
        let node = Some(Node { key, value, older: NONE, newer: NONE });
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(place) = self.nodes.get_mut(slot) {
                *place = node;
            }
            slot
        } else {
            self.nodes.push(node);
            self.nodes.len().saturating_sub(1)
        };
        self.index.insert(key, slot);
        self.link_newest(slot);
        gone
    }

    /// Makes an entry the newest.
    pub fn touch(&mut self, key: &K) {
        if let Some(&slot) = self.index.get(key) {
            if slot != self.newest {
                self.unlink(slot);
                self.link_newest(slot);
            }
        }
    }

    /// Makes an entry the oldest: the next to go.
    pub fn demote(&mut self, key: &K) {
        if let Some(&slot) = self.index.get(key) {
            self.unlink(slot);
            let former = self.oldest;
            self.set_links(slot, NONE, former);
            match self.node_mut(former) {
                Some(node) => node.older = slot,
                None => self.newest = slot,
            }
            self.oldest = slot;
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.index.remove(key)?;
        self.unlink(slot);
        let node = self.nodes.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(node.value)
    }

    /// Takes the oldest entry out.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let key = *self.oldest()?.0;
        self.remove(&key).map(|value| (key, value))
    }

    fn node_mut(&mut self, slot: usize) -> Option<&mut Node<K, V>> {
        self.nodes.get_mut(slot)?.as_mut()
    }

    fn set_links(&mut self, slot: usize, older: usize, newer: usize) {
        if let Some(node) = self.node_mut(slot) {
            node.older = older;
            node.newer = newer;
        }
    }

    fn link_newest(&mut self, slot: usize) {
        let former = self.newest;
        self.set_links(slot, former, NONE);
        match self.node_mut(former) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: usize) {
        let Some(node) = self.node_mut(slot) else { return };
        let (older, newer) = (node.older, node.newer);
        match self.node_mut(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match self.node_mut(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(map: &mut AgedMap<u32, char>) -> Vec<(u32, char)> {
        std::iter::from_fn(|| map.pop_oldest()).collect()
    }

    #[test]
    fn the_oldest_goes_when_the_map_is_full() {
        let mut map = AgedMap::new(2);
        assert_eq!(map.insert(1, 'a'), None);
        assert_eq!(map.insert(2, 'b'), None);
        assert_eq!(map.insert(3, 'c'), Some((1, 'a')));
        assert_eq!((map.len(), map.contains(&1)), (2, false));
        assert_eq!(drain(&mut map), [(2, 'b'), (3, 'c')]);
        assert_eq!(map.pop_oldest(), None);
    }

    #[test]
    fn a_touched_entry_is_the_newest_and_a_demoted_one_the_oldest() {
        let mut map = AgedMap::new(4);
        for (key, value) in [(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')] {
            map.insert(key, value);
        }
        map.touch(&2);
        map.demote(&4);
        map.demote(&4);
        assert_eq!(map.oldest(), Some((&4, &'d')));
        assert_eq!(drain(&mut map), [(4, 'd'), (1, 'a'), (3, 'c'), (2, 'b')]);
        map.insert(9, 'z');
        map.demote(&9);
        map.touch(&9);
        assert_eq!(drain(&mut map), [(9, 'z')]);
    }

    #[test]
    fn a_replaced_value_comes_back_and_counts_as_new() {
        let mut map = AgedMap::new(2);
        map.insert(1, 'a');
        map.insert(2, 'b');
        assert_eq!(map.insert(1, 'c'), Some((1, 'a')));
        assert_eq!(map.remove(&2), Some('b'));
        assert_eq!(map.get(&1), Some(&'c'));
        assert_eq!(map.nodes.len(), 2, "slots are used again");
        assert_eq!(drain(&mut map), [(1, 'c')]);
    }
}
