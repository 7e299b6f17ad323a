//! The Merkle tree over a list of leaves, as Certificate Transparency defines it.
//!
//! Purpose: one hash that binds every record, key slot or segment, and short proofs that a single
//! one is part of it, or that a longer log still begins with a shorter one.
//! Invariants: leaves and inner nodes are hashed in separate domains (0x00, 0x01); pushing a leaf
//! allocates nothing once a frontier has grown to its (at most 64) hashes; a check of a proof
//! takes hostile input and at most as many steps as the proof has hashes.
//! Non-goals: what a leaf says (see `checkpoint` and `footer`), and signatures (see `signing`).
//! Sources: RFC 9162 §2.1 (RFC 6962 §2.1 defines the same tree); FIPS 180-4 (SHA-256).

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A SHA-256 hash: of a leaf, of a tree, or of plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// These 32 bytes as a hash.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 44 characters of padded standard base64 (RFC 4648 §4).
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads what [`Self::to_base64`] writes, and no other spelling of the same bytes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        if text.len() != 44 {
            return None;
        }
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Reads what [`Self::to_hex`] writes: exactly 64 lower-case hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }

    fn of(digest: &aws_lc_rs::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, from)| *byte = *from);
        Self(bytes)
    }
}

const fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

/// SHA-256 of all parts, one behind the other, without any prefix.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    if let [one] = parts {
        return Hash::of(&digest(&SHA256, one));
    }
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    Hash::of(&context.finish())
}

/// The hash of one leaf: SHA-256 of 0x00 and all parts, one behind the other.
///
/// Where a part ends is not hashed: the caller's parts must have lengths that the leaf itself says.
/// Source: RFC 9162 §2.1.1, `MTH({d[0]})`.
#[must_use]
pub fn leaf_hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    for part in parts {
        context.update(part);
    }
    Hash::of(&context.finish())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    let (_, children) = bytes.split_at_mut(1);
    let both = left.0.iter().chain(&right.0);
    children.iter_mut().zip(both).for_each(|(byte, from)| *byte = *from);
    Hash::of(&digest(&SHA256, &bytes))
}

/// The hash of the tree over `leaves`, which are leaf hashes in order; none: SHA-256 of nothing.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// A growing tree: only the roots of its complete subtrees, the largest first.
///
/// There is one subtree for each bit of `size`, so at most 64 hashes whatever the length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Appends a leaf hash: one node hash for each subtree that it completes, 1 on average.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each low bit of the size is a subtree as large as what was merged so far.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The hash of the tree so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let smallest_first = self.peaks.iter().rev().copied();
        smallest_first.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(|| sha256(&[]))
    }

    /// How many leaves were pushed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first: with the size, all there is to keep.
    #[must_use]
    pub fn hashes(&self) -> Vec<Hash> {
        self.peaks.clone()
    }

    /// What [`Self::hashes`] gave for a tree of `size` leaves; `None` if the count is not that of
    /// the bits set in `size`. That the hashes are right shows only in the root.
    #[must_use]
    pub fn from_hashes(size: u64, hashes: &[Hash]) -> Option<Self> {
        let fits = usize::try_from(size.count_ones()) == Ok(hashes.len());
        fits.then(|| Self { size, peaks: hashes.to_vec() })
    }
}

/// The largest power of two below `size`, which is at least 2.
const fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// The hashes that lead from leaf `index` (from 0) of `leaves` to their root, from the bottom up.
///
/// Empty for a tree of one leaf, and for an index that is not there, which no check accepts.
/// Takes one pass over all leaves.
/// Source: RFC 9162 §2.1.3.1, `PATH(m, D_n)`.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let (mut rest, mut index, mut proof) = (leaves, index, Vec::new());
    if index >= leaves.len() {
        return proof;
    }
    while rest.len() > 1 {
        let at = split(rest.len());
        let (left, right) = rest.split_at(at);
        if index < at {
            proof.push(root(right));
            rest = left;
        } else {
            proof.push(root(left));
            rest = right;
            index -= at;
        }
    }
    proof.reverse();
    proof
}

/// True if `proof` leads from `leaf`, which is number `index` (from 0) of `size`, to `root`.
///
/// Any input is safe; a proof that is too short or too long is false.
/// Source: RFC 9162 §2.1.3.2.
#[must_use]
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node at the right edge has no sibling on these levels.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// The hashes that show that the tree over all `leaves` begins with the first `old_size` of them.
///
/// Empty if nothing has to be shown: `old_size` is 0, all of them, or more than there are.
/// Takes one pass over all leaves.
/// Source: RFC 9162 §2.1.4.1, `PROOF(m, D_n)`.
#[must_use]
pub fn consistency_proof(leaves: &[Hash], old_size: usize) -> Vec<Hash> {
    let (mut rest, mut old, mut proof) = (leaves, old_size, Vec::new());
    if old == 0 || old >= leaves.len() {
        return proof;
    }
    // The subtree that is the whole old tree need not be told: the check begins with its root.
    let mut is_old_tree = true;
    while old != rest.len() {
        let at = split(rest.len());
        let (left, right) = rest.split_at(at);
        if old <= at {
            proof.push(root(right));
            rest = left;
        } else {
            proof.push(root(left));
            rest = right;
            old -= at;
            is_old_tree = false;
        }
    }
    if !is_old_tree {
        proof.push(root(rest));
    }
    proof.reverse();
    proof
}

/// True if `proof` shows that the tree of `new_size` leaves with `new_root` begins with the tree of
/// `old_size` leaves with `old_root`.
///
/// Any input is safe. The empty tree begins every tree; equal sizes need equal roots; both take an
/// empty proof only.
/// Source: RFC 9162 §2.1.4.2.
#[must_use]
pub fn verify_consistency(
    old_size: u64,
    old_root: Hash,
    new_size: u64,
    new_root: Hash,
    proof: &[Hash],
) -> bool {
    if old_size == 0 {
        return proof.is_empty() && old_root == sha256(&[]);
    }
    if old_size >= new_size {
        return old_size == new_size && proof.is_empty() && old_root == new_root;
    }
    // Up to the largest subtree that both trees have whole and that ends where the old one ends.
    let shift = (old_size - 1).trailing_ones();
    let (mut node, mut last) = ((old_size - 1) >> shift, (new_size - 1) >> shift);
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        let Some((first, rest)) = proof.split_first() else { return false };
        (*first, rest)
    };
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old_root && new_hash == new_root
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
