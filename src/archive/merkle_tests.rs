//! Merkle trees against published roots, and against the definition taken word by word.
//!
//! Purpose: show that the fast forms are the tree of RFC 9162 §2.1.
//! Invariants: the naive forms below are the recursive definitions of the RFC, nothing else.
//! Non-goals: speed.
//! Sources: RFC 9162 §2.1; transparency-dev/merkle, `testonly` (leaves, roots).

use proptest::prelude::*;

use super::*;

/// The eight leaves of Certificate Transparency's own tests.
const LEAVES: [&[u8]; 8] = [
    &[],
    &[0x00],
    &[0x10],
    &[0x20, 0x21],
    &[0x30, 0x31],
    &[0x40, 0x41, 0x42, 0x43],
    &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
    &[
        0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e,
        0x6f,
    ],
];

/// Roots of the first 0, 1, … 8 of them.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn published() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&[leaf])).collect()
}

fn numbered(count: usize) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&[&number.to_le_bytes()])).collect()
}

fn power_below(size: usize) -> usize {
    (0..usize::BITS)
        .map(|bit| 1 << bit)
        .take_while(|power| *power < size)
        .last()
        .expect("size is over 1")
}

fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(power_below(leaves.len()));
            sha256(&[&[1], naive_root(left).as_bytes(), naive_root(right).as_bytes()])
        }
    }
}

fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let at = power_below(leaves.len());
    let (left, right) = leaves.split_at(at);
    if index < at {
        [naive_path(index, left), vec![naive_root(right)]].concat()
    } else {
        [naive_path(index - at, right), vec![naive_root(left)]].concat()
    }
}

fn naive_subproof(old: usize, leaves: &[Hash], is_old_tree: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if is_old_tree { vec![] } else { vec![naive_root(leaves)] };
    }
    let at = power_below(leaves.len());
    let (left, right) = leaves.split_at(at);
    if old <= at {
        [naive_subproof(old, left, is_old_tree), vec![naive_root(right)]].concat()
    } else {
        [naive_subproof(old - at, right, false), vec![naive_root(left)]].concat()
    }
}

#[test]
fn roots_are_those_that_certificate_transparency_publishes() {
    let leaves = published();
    let mut frontier = Frontier::default();
    for (count, expected) in ROOTS.iter().enumerate() {
        assert_eq!(root(&leaves[..count]).to_hex(), *expected, "{count} leaves");
        assert_eq!(frontier.root().to_hex(), *expected, "{count} leaves pushed");
        assert_eq!(frontier.size(), count as u64);
        if let Some(leaf) = leaves.get(count) {
            frontier.push(*leaf);
        }
    }
}

#[test]
fn a_published_inclusion_proof_is_made_and_accepted() {
    // Leaf 0 of 8: the path of RFC 6962's reference implementation.
    let expected = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    let proof = inclusion_proof(&published(), 0);
    assert_eq!(proof.iter().map(Hash::to_hex).collect::<Vec<_>>(), expected);
    let whole = Hash::from_hex(ROOTS[8]).expect("a root is hex");
    assert!(verify_inclusion(published()[0], 0, 8, &proof, whole));
}

#[test]
fn every_small_tree_proves_each_leaf_and_each_shorter_tree_as_the_rfc_says() {
    for size in 1..=33 {
        let leaves = numbered(size);
        let whole = root(&leaves);
        let new_size = size as u64;
        for (index, leaf) in leaves.iter().enumerate() {
            let proof = inclusion_proof(&leaves, index);
            assert_eq!(proof, naive_path(index, &leaves), "leaf {index} of {size}");
            assert!(verify_inclusion(*leaf, index as u64, new_size, &proof, whole));
            let other = leaf_hash(&[b"other"]);
            assert!(!verify_inclusion(other, index as u64, new_size, &proof, whole));
            assert!(!verify_inclusion(*leaf, index as u64 + 1, new_size, &proof, whole));
        }
        for old in 1..=size {
            let proof = consistency_proof(&leaves, old);
            assert_eq!(proof, naive_subproof(old, &leaves, true), "{old} of {size}");
            let old_root = root(&leaves[..old]);
            assert!(verify_consistency(old as u64, old_root, new_size, whole, &proof));
            let other = leaf_hash(&[b"other"]);
            assert!(!verify_consistency(old as u64, other, new_size, whole, &proof));
            assert!(!verify_consistency(old as u64, old_root, new_size, other, &proof));
        }
    }
}

#[test]
fn nothing_is_shown_of_trees_that_cannot_be() {
    let leaves = numbered(5);
    let whole = root(&leaves);
    assert!(inclusion_proof(&leaves, 5).is_empty());
    assert!(inclusion_proof(&[], 0).is_empty());
    assert!(!verify_inclusion(leaves[0], 0, 0, &[], whole));
    assert!(!verify_inclusion(leaves[0], u64::MAX, u64::MAX, &[], whole));
    assert!(!verify_inclusion(leaves[0], 5, 5, &inclusion_proof(&leaves, 4), whole));
    // The empty tree begins every tree, and shows nothing.
    assert!(consistency_proof(&leaves, 0).is_empty());
    assert!(consistency_proof(&leaves, 6).is_empty());
    assert!(verify_consistency(0, sha256(&[]), 5, whole, &[]));
    assert!(!verify_consistency(0, sha256(&[]), 5, whole, &[whole]));
    assert!(!verify_consistency(6, whole, 5, whole, &[]));
    assert!(!verify_consistency(3, root(&leaves[..3]), 5, whole, &[]));
    assert!(verify_consistency(5, whole, 5, whole, &[]));
    // More hashes than the longest path of any tree has.
    let long = vec![whole; 200];
    for size in [1, 2, 1 << 40, u64::MAX] {
        assert!(!verify_inclusion(whole, 0, size, &long, whole));
        assert!(!verify_inclusion(whole, size - 1, size, &long, whole));
        assert!(!verify_consistency(1, whole, size.max(2), whole, &long));
        assert!(!verify_consistency(size - 1, whole, size, whole, &long));
    }
}

#[test]
fn a_frontier_goes_on_where_it_was_kept() {
    let leaves = numbered(100);
    for kept_at in 0..=leaves.len() {
        let mut before = Frontier::default();
        leaves[..kept_at].iter().for_each(|leaf| before.push(*leaf));
        let mut after = Frontier::from_hashes(before.size(), &before.hashes()).expect("it fits");
        assert_eq!(after, before);
        leaves[kept_at..].iter().for_each(|leaf| after.push(*leaf));
        assert_eq!(after.root(), naive_root(&leaves));
        assert_eq!(Frontier::from_hashes(before.size() + 1, &[]), None);
    }
    let seven = vec![leaves[0]; 7];
    assert!(Frontier::from_hashes(127, &seven).is_some());
    assert!(Frontier::from_hashes(128, &seven).is_none());
    assert!(Frontier::from_hashes(63, &seven).is_none());
}

#[test]
fn a_hash_is_read_as_it_is_written_and_in_no_other_spelling() {
    let hash = leaf_hash(&[b"a", b"bc"]);
    assert_eq!(hash, leaf_hash(&[b"abc"]));
    assert_eq!(hash, sha256(&[&[0], b"abc"]));
    assert_eq!(Hash::from_base64(&hash.to_base64()), Some(hash));
    assert_eq!(Hash::from_hex(&hash.to_hex()), Some(hash));
    assert_eq!(Hash::from_hex(&hash.to_hex().to_uppercase()), None);
    assert_eq!(Hash::from_hex(&hash.to_hex()[1..]), None);
    assert_eq!(Hash::from_base64(""), None);
    assert_eq!(Hash::from_base64(&format!("{}=", hash.to_base64())), None);
    let zeros = Hash::new([0; 32]).to_base64();
    assert_eq!(zeros, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    // The last letter holds two bits that mean nothing: only zeros are ours.
    assert_eq!(Hash::from_base64(&zeros.replace("A=", "B=")), None);
}

proptest! {
    #[test]
    fn roots_and_proofs_are_those_of_the_definition(size in 1_usize..300, a: usize, b: usize) {
        let leaves = numbered(size);
        let (index, old) = (a % size, b % size + 1);
        prop_assert_eq!(root(&leaves), naive_root(&leaves));
        prop_assert_eq!(inclusion_proof(&leaves, index), naive_path(index, &leaves));
        prop_assert_eq!(consistency_proof(&leaves, old), naive_subproof(old, &leaves, true));
    }

    #[test]
    fn a_changed_proof_is_refused(size in 2_usize..100, a: usize, cut: usize, bit in 0_usize..256) {
        let leaves = numbered(size);
        let (whole, index) = (root(&leaves), a % size);
        let proof = inclusion_proof(&leaves, index);
        let check = |proof: &[Hash]| {
            verify_inclusion(leaves[index], index as u64, size as u64, proof, whole)
        };
        let mut changed = proof.clone();
        changed[cut % proof.len()].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!check(&changed));
        prop_assert!(!check(&proof[..cut % proof.len()]));
        prop_assert!(!check(&[&proof[..], &[whole]].concat()));
    }

    #[test]
    fn any_input_is_checked_without_a_panic(
        old: u64, new: u64, hashes in prop::collection::vec(any::<[u8; 32]>(), 0..80)
    ) {
        let hashes: Vec<Hash> = hashes.into_iter().map(Hash::new).collect();
        let some = Hash::new([7; 32]);
        prop_assert!(!verify_inclusion(some, old, new, &hashes, some) || hashes.is_empty());
        let same = old == new && hashes.is_empty();
        prop_assert_eq!(verify_consistency(old.max(1), some, new.max(1), some, &hashes),
            same || old.max(1) == new.max(1) && hashes.is_empty());
    }
}
