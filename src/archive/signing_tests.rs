//! Keys and notes against the published example of Go's sumdb/note.
//!
//! Purpose: show that keys, ids, notes and signatures are those that other tools read and write.
//! Invariants: none.
//! Non-goals: the curve (AWS-LC's own tests).
//! Sources: golang.org/x/mod/sumdb/note, package documentation; RFC 8032 §7.1 test 1.

use super::*;

const GO_SECRET: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const GO_PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
     then you don't know what your problem is.\n\
     \n\
     \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf\
     qdngotpRZb6KE6RyyBwJnAM=\n";

fn key(name: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(name, [seed; 32]).expect("a name")
}

#[test]
fn the_published_example_of_go_is_read_and_written_byte_for_byte() {
    let secret = SigningKey::parse(GO_SECRET).expect("a key");
    let public = VerifyingKey::parse(GO_PUBLIC).expect("a key");
    assert_eq!(secret.verifying_key(), public);
    assert_eq!(public.to_string(), GO_PUBLIC);
    assert_eq!(*secret.file_text(), format!("{GO_SECRET}\n"));
    let (text, _) = GO_NOTE.split_once("\n\n").expect("a blank line");
    assert_eq!(sign_note(&format!("{text}\n"), &secret), GO_NOTE);
    assert_eq!(open_note(GO_NOTE.as_bytes(), &public), Ok(&GO_NOTE[..=text.len()]));
}

#[test]
fn the_first_test_of_rfc_8032_has_this_public_key() {
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    let public = SigningKey::from_seed("a", seed).expect("a name").verifying_key();
    assert_eq!(public.public_key()[..8], [0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7]);
}

#[test]
fn a_key_survives_its_file_and_a_damaged_one_is_refused() {
    let secret = key("callspan/box", 3);
    let text = secret.file_text();
    assert_eq!(text.len(), text.trim_end().len() + 1);
    let again = SigningKey::parse(&text).expect("a key");
    assert_eq!(again.verifying_key(), secret.verifying_key());
    assert!(!format!("{secret:?}").contains(text.rsplit('+').next().expect("a part").trim_end()));
    let public = secret.verifying_key().to_string();
    for at in 0..public.len() {
        let mut bytes = public.clone().into_bytes();
        bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert_eq!(VerifyingKey::parse(&changed), None, "{changed}");
        assert_eq!(VerifyingKey::parse(&public[..at]), None);
    }
    for at in 0..text.trim_end().len() {
        assert!(SigningKey::parse(&text[..at]).is_none(), "cut at {at}");
    }
    let wrong_id = GO_SECRET.replace("c74f20a3", "c74f20a4");
    assert!(SigningKey::parse(&wrong_id).is_none());
    assert!(SigningKey::parse(GO_PUBLIC).is_none());
    // Type 2 is another algorithm.
    assert!(VerifyingKey::parse(&GO_PUBLIC.replace("+AR", "+AB")).is_none());
}

#[test]
fn names_that_would_break_a_line_are_refused() {
    let long = "x".repeat(KEY_NAME_BYTES_MAX);
    assert!(SigningKey::from_seed(&long, [1; 32]).is_some());
    for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "a\0b", &format!("{long}x")] {
        assert!(SigningKey::from_seed(name, [1; 32]).is_none(), "{name:?}");
    }
}

#[test]
fn a_note_with_blank_lines_is_split_at_the_last_one() {
    let secret = key("a", 1);
    let text = "one\n\ntwo\n\n";
    let note = sign_note(text, &secret);
    assert_eq!(open_note(note.as_bytes(), &secret.verifying_key()), Ok(text));
}

#[test]
fn signatures_of_strangers_are_ignored_and_a_wrong_one_of_ours_is_not() {
    let (ours, other) = (key("ours", 1), key("other", 2));
    let public = ours.verifying_key();
    let note = sign_note("text\n", &ours);
    let (_, strange) = sign_note("text\n", &other)
        .split_once("\n\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a note");
    let both = format!("{note}{strange}");
    assert_eq!(open_note(both.as_bytes(), &public), Ok("text\n"));
    assert_eq!(open_note(both.as_bytes(), &other.verifying_key()), Ok("text\n"));
    assert_eq!(open_note(note.as_bytes(), &other.verifying_key()), Err(NoteFault::OtherKey));
    // The same name with another key has another id: unknown.
    let namesake = key("ours", 2).verifying_key();
    assert_eq!(open_note(note.as_bytes(), &namesake), Err(NoteFault::OtherKey));
    let changed = both.replace("text", "next");
    assert_eq!(open_note(changed.as_bytes(), &public), Err(NoteFault::WrongSignature));
    let longer = format!("{both}\u{2014} x AAAA\n");
    assert_eq!(open_note(longer.as_bytes(), &public), Err(NoteFault::Malformed));
}

#[test]
fn limits_of_a_note_are_kept() {
    let ours = key("ours", 1);
    let public = ours.verifying_key();
    let note = sign_note("text\n", &ours);
    let strange = "\u{2014} x AAAAAAAA\n";
    let most = format!("{note}{}", strange.repeat(NOTE_SIGNATURES_MAX - 1));
    assert_eq!(open_note(most.as_bytes(), &public), Ok("text\n"));
    let over = format!("{most}{strange}");
    assert_eq!(open_note(over.as_bytes(), &public), Err(NoteFault::TooLong));
    let long = sign_note(&format!("{}\n", "x".repeat(NOTE_BYTES_MAX)), &ours);
    assert_eq!(open_note(long.as_bytes(), &public), Err(NoteFault::TooLong));
}

#[test]
fn a_note_cut_or_changed_anywhere_is_refused_without_a_panic() {
    let ours = key("ours", 1);
    let public = ours.verifying_key();
    let note = sign_note("text\nmore\n", &ours).into_bytes();
    for at in 0..note.len() {
        assert!(open_note(&note[..at], &public).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut changed = note.clone();
            changed[at] ^= 1 << bit;
            assert!(open_note(&changed, &public).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert_eq!(open_note(b"a\tb\n\nx\n", &public), Err(NoteFault::NotText));
    assert_eq!(open_note(b"a\xff\n\nx\n", &public), Err(NoteFault::NotText));
}

#[test]
fn a_detached_signature_binds_context_parts_and_their_borders() {
    let ours = key("ours", 1);
    let public = ours.verifying_key();
    let signature = ours.sign("tombstone", &[b"ab", b"c"]);
    assert!(public.verify("tombstone", &[b"ab", b"c"], &signature));
    assert!(!public.verify("tombstone", &[b"a", b"bc"], &signature));
    assert!(!public.verify("tombstone", &[b"abc"], &signature));
    assert!(!public.verify("tombstone", &[b"ab", b"c", b""], &signature));
    assert!(!public.verify("tombstonea", &[b"b", b"c"], &signature));
    assert!(!public.verify("audit", &[b"ab", b"c"], &signature));
    assert!(!key("ours", 2).verifying_key().verify("tombstone", &[b"ab", b"c"], &signature));
    let mut changed = signature;
    changed[63] ^= 1;
    assert!(!public.verify("tombstone", &[b"ab", b"c"], &changed));
}

#[test]
fn a_detached_signature_is_never_that_of_a_note() {
    let ours = key("ours", 1);
    let signature = ours.sign("a", &[]);
    let bytes = [&ours.verifying_key().id()[..], &signature].concat();
    let text = String::from_utf8(framed("a", &[])).expect("ASCII");
    let note = format!("{text}\n\u{2014} ours {}\n", STANDARD.encode(bytes));
    assert_eq!(open_note(note.as_bytes(), &ours.verifying_key()), Err(NoteFault::NotText));
}

#[test]
fn a_new_key_is_another_each_time_and_its_file_brings_it_back() {
    let (one, two) = (SigningKey::generate("a"), SigningKey::generate("a"));
    let (one, two) = (one.expect("a key"), two.expect("a key"));
    assert_ne!(one.verifying_key(), two.verifying_key());
    let again = SigningKey::parse(&one.file_text()).expect("its own file");
    assert_eq!(again.verifying_key(), one.verifying_key());
    assert!(SigningKey::generate("a b").is_none());
}

#[test]
fn an_unchecked_text_is_read_whoever_signed_it() {
    let note = sign_note("a\n\nb\n", &key("ours", 1));
    assert_eq!(unchecked_text(note.as_bytes()), Ok("a\n\nb\n"));
    assert_eq!(unchecked_text(b"a\n"), Err(NoteFault::Malformed));
}
