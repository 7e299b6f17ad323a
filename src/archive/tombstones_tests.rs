//! The chain of tombstones: what it says, what it refuses, and every way to damage it.
//!
//! Purpose: show that no change of a line goes unseen, and that a torn tail is not called damage.
//! Invariants: none.
//! Non-goals: files (see `tombstone_file_tests`).
//! Sources: the drawing in `tombstones`.

use super::*;

const ARCHIVE: [u8; 16] = [7; 16];
const CALL: CallId = CallId(0xabc);
const SECOND: i64 = 1_795_489_056_000_000_000;

fn key() -> SigningKey {
    SigningKey::from_seed("callspan/a", [1; 32]).expect("a name")
}

fn begun(call: CallId) -> Tombstone {
    Tombstone::EraseBegun { call, reason: "request 17".to_owned(), started_at_ns: Some(SECOND) }
}

fn held(call: CallId) -> Tombstone {
    Tombstone::Held { call, reason: "court order".to_owned() }
}

fn released(call: CallId) -> Tombstone {
    Tombstone::Released { call, reason: "case \"closed\" – ü".to_owned() }
}

fn compacted(segment: u64, footer: u8) -> Tombstone {
    Tombstone::Compacted { segment: SegmentId(segment), footer: Hash::new([footer; 32]) }
}

/// One of each kind.
fn every_kind() -> Vec<Tombstone> {
    let erased = Tombstone::Erased { call: CALL };
    let unknown = Tombstone::EraseBegun {
        call: CallId(2),
        reason: "retention".to_owned(),
        started_at_ns: None,
    };
    let hash = Hash::new([9; 32]);
    let rewrapped = Tombstone::Rewrapped { segment: SegmentId(4), slots: hash };
    let settings = Tombstone::Settings { manifest: hash };
    let (one, two) = (compacted(3, 1), compacted(3, 2));
    let other = CallId(5);
    vec![
        held(CALL),
        released(CALL),
        begun(CALL),
        erased,
        unknown,
        one,
        rewrapped,
        two,
        settings,
        held(other),
    ]
}

fn lines(all: &[Tombstone]) -> (Tombstones, Vec<Vec<u8>>) {
    let mut tombstones = Tombstones::new(ARCHIVE);
    let lines = all.iter().map(|one| tombstones.append_line(one, SECOND, &key()).expect("allowed"));
    let lines = lines.collect();
    (tombstones, lines)
}

fn parse(bytes: &[u8]) -> Result<(Tombstones, u64), TombstoneFault> {
    Tombstones::parse(bytes, ARCHIVE, Some(&key().verifying_key()))
}

#[test]
fn the_first_line_is_the_drawn_one() {
    let (_, lines) = lines(&[begun(CALL)]);
    let line = String::from_utf8(lines.concat()).expect("text");
    let (signature, json) = line.split_once(' ').expect("two parts");
    let zeros = "0".repeat(64);
    assert_eq!(
        json,
        format!(
            "{{\"n\":1,\"previous\":\"{zeros}\",\"time\":\"2026-11-24T02:57:36.000000000+00:00\",\
             \"kind\":\"erase_begun\",\"call\":\"0000000000000abc\",\"reason\":\"request 17\",\
             \"started_at\":\"2026-11-24T02:57:36.000000000+00:00\"}}\n"
        )
    );
    let signature = STANDARD.decode(signature).expect("base64").try_into().expect("64 bytes");
    let signed = [&ARCHIVE[..], json.trim_end().as_bytes()];
    assert!(key().verifying_key().verify("callspan tombstone", &signed, &signature));
}

#[test]
fn what_was_written_is_read_back_and_answers_all_questions() {
    let (tombstones, lines) = lines(&every_kind());
    let (read, torn) = parse(&lines.concat()).expect("whole");
    assert_eq!((&read, torn), (&tombstones, 0));
    assert_eq!((read.count(), read.head()), (10, sha256(&[lines.last().expect("lines")])));
    assert!(read.is_erased(CALL) && !read.is_erased(CallId(2)) && !read.is_erased(CallId(3)));
    let erasure = Erasure {
        reason: "request 17".to_owned(),
        started_at_ns: Some(SECOND),
        begun_ns: SECOND,
        erased_ns: Some(SECOND),
    };
    assert_eq!(read.erasure(CALL), Some(&erasure));
    assert_eq!(read.unfinished().collect::<Vec<_>>(), [CallId(2)]);
    assert_eq!(read.erasures().count(), 2);
    assert!(!read.is_held(CALL) && read.is_held(CallId(5)));
    assert_eq!(read.held(CallId(5)), Some("court order"));
    assert_eq!(read.compaction(SegmentId(3)), Some(Hash::new([2; 32])));
    assert_eq!(read.compaction(SegmentId(4)), None);
    assert_eq!(parse(&[]), Ok((Tombstones::new(ARCHIVE), 0)));
}

#[test]
fn a_call_on_hold_is_not_erased_and_an_erased_one_not_held() {
    let refused = |all: &[Tombstone]| {
        let (last, before) = all.split_last().expect("one");
        let (mut tombstones, _) = lines(before);
        let as_before = tombstones.clone();
        let refusal = tombstones.append_line(last, SECOND, &key()).err();
        assert!(refusal.is_none() || tombstones == as_before);
        refusal
    };
    let erased = || Tombstone::Erased { call: CALL };
    assert_eq!(refused(&[held(CALL), begun(CALL)]), Some(TombstoneRefusal::OnHold));
    assert_eq!(refused(&[held(CALL), released(CALL), begun(CALL)]), None);
    assert_eq!(refused(&[begun(CALL), begun(CALL)]), None);
    assert_eq!(refused(&[begun(CALL), held(CALL)]), Some(TombstoneRefusal::AlreadyErased));
    let twice = [begun(CALL), erased(), begun(CALL)];
    assert_eq!(refused(&twice), Some(TombstoneRefusal::AlreadyErased));
    assert_eq!(refused(&[begun(CALL), erased(), erased()]), Some(TombstoneRefusal::AlreadyErased));
    assert_eq!(refused(&[erased()]), Some(TombstoneRefusal::NotBegun));
    assert_eq!(refused(&[released(CALL)]), Some(TombstoneRefusal::NotHeld));
    for reason in ["", "two\nlines", "bell\u{7}", "next\u{85}line", &"x".repeat(257)] {
        let tombstone = Tombstone::Held { call: CALL, reason: reason.to_owned() };
        assert_eq!(refused(&[tombstone]), Some(TombstoneRefusal::Reason), "{reason:?}");
    }
    let longest = Tombstone::Held { call: CALL, reason: "\"".repeat(256) };
    let (_, lines) = lines(&[longest]);
    assert!(parse(&lines.concat()).is_ok(), "the longest line is within its limit");
}

#[test]
fn a_tail_cut_at_any_byte_is_torn_and_what_is_before_it_whole() {
    let (_, lines) = lines(&every_kind());
    let bytes = lines.concat();
    let mut ends = vec![0];
    for line in &lines {
        ends.push(ends.last().expect("one") + line.len());
    }
    for cut in 0..=bytes.len() {
        let whole = ends.iter().rposition(|end| *end <= cut).expect("0 is one");
        let (read, torn) = parse(&bytes[..cut]).expect("only torn");
        assert_eq!(
            (read.count(), torn),
            (whole as u64, (cut - ends[whole]) as u64),
            "cut at {cut}"
        );
    }
    // Blocks that were never written.
    let last = ends[lines.len() - 1];
    let border = (last / 512 + 1) * 512;
    let mut holes = bytes.clone();
    let end = border.min(holes.len());
    holes[last..end].fill(0);
    let (read, torn) = parse(&holes).expect("torn");
    assert_eq!((read.count(), torn), (9, (bytes.len() - last) as u64));
    holes.truncate(last);
    holes.extend([0; 700]);
    assert_eq!(parse(&holes).expect("torn").1, 700);
}

#[test]
fn every_flipped_bit_is_found_and_none_is_called_torn() {
    let (_, lines) = lines(&every_kind());
    let bytes = lines.concat();
    for at in 0..bytes.len() {
        let line = bytes[..at].split(|byte| *byte == b'\n').count() as u64;
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let fault = parse(&changed).expect_err("damage");
            assert_eq!(fault.line, line, "byte {at}, bit {bit}: {fault}");
        }
        let mut zeroed = bytes.clone();
        zeroed[at] = 0;
        assert_eq!(parse(&zeroed).expect_err("damage").line, line, "byte {at}");
    }
}

#[test]
fn lines_taken_out_moved_or_brought_from_elsewhere_are_found() {
    let (_, lines) = lines(&every_kind());
    let fault = |lines: &[Vec<u8>]| parse(&lines.concat()).expect_err("damage");
    let (number, previous) = (TombstoneDamage::Number, TombstoneDamage::Previous);
    let damage = |line, what| TombstoneFault { line, what };
    assert_eq!(fault(&lines[1..]), damage(1, number));
    assert_eq!(fault(&[&lines[..3], &lines[4..]].concat()), damage(4, number));
    assert_eq!(fault(&[&lines[..3], &lines[2..]].concat()), damage(4, number));
    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    assert_eq!(fault(&swapped), damage(5, number));
    // A line of a twin with the same number, properly signed.
    let mut twin = every_kind();
    twin[0] = Tombstone::Held { call: CALL, reason: "another".to_owned() };
    let (_, twin) = self::lines(&twin);
    assert_eq!(fault(&[&lines[..3], &twin[3..]].concat()), damage(4, previous));
    let signature = damage(1, TombstoneDamage::Signature);
    let other = SigningKey::from_seed("callspan/a", [2; 32]).expect("a name").verifying_key();
    assert_eq!(Tombstones::parse(&lines.concat(), ARCHIVE, Some(&other)), Err(signature));
    let public = key().verifying_key();
    assert_eq!(Tombstones::parse(&lines.concat(), [8; 16], Some(&public)), Err(signature));
    assert!(Tombstones::parse(&lines.concat(), ARCHIVE, None).is_ok());
}

#[test]
fn a_signed_line_that_breaks_the_rules_or_another_spelling_is_damage() {
    let (tombstones, lines) = lines(&[held(CALL)]);
    let sign = |json: &str| {
        let signature = key().sign(CONTEXT, &[&ARCHIVE, json.as_bytes()]);
        let line = format!("{} {json}\n", STANDARD.encode(signature)).into_bytes();
        parse(&[lines.concat(), line].concat()).map_err(|fault| (fault.line, fault.what))
    };
    let good = Entry::of(2, tombstones.head(), SECOND, &released(CALL)).to_json();
    assert!(sign(&good).is_ok());
    let breaking = Entry::of(2, tombstones.head(), SECOND, &begun(CALL)).to_json();
    assert_eq!(sign(&breaking), Err((2, TombstoneDamage::Contradiction)));
    for (from, to) in [
        ("{\"n\"", "{ \"n\""),
        ("\"n\":2", "\"n\":2.0"),
        ("\"n\":2", "\"n\":2,\"n\":2"),
        ("released", "forgotten"),
        ("\"reason\"", "\"extra\":1,\"reason\""),
        ("\"reason\"", "\"segment\":1,\"reason\""),
        ("0000000000000abc", "0000000000000ABC"),
        (".000000000+00:00", "Z"),
        ("ü", "\\u00fc"),
    ] {
        let other = good.replacen(from, to, 1);
        assert_ne!(other, good);
        assert_eq!(sign(&other), Err((2, TombstoneDamage::NotALine)), "{to}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at: usize) {
        let _ = parse(&bytes);
        let (_, lines) = lines(&every_kind());
        let mut whole = lines.concat();
        let at = at % whole.len();
        whole.splice(at..at, bytes);
        let _ = parse(&whole);
    }
}
