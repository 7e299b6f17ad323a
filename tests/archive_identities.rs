//! Who can open a recording: age's own keys, ours, SSH keys; and how everybody else is refused.
//!
//! Purpose: the keys that people have work as recipients and identities, and a refusal names whose key
//! is wanted and leaves nothing behind.
//! Invariants: keys are made by the programs that people use (`age-keygen`, `ssh-keygen`, ours).
//! Non-goals: what is readable without any key (see `archive_ciphertext`).
//! Sources: issue 4, "Sealed recordings"; age-encryption.org/v1.

mod robust_common;

use std::fs;

use robust_common::{CALLSPAN, Case, Ended, ends, phones};

/// A folder without an archive.
fn folder() -> Case {
    Case { folder: tempfile::tempdir().expect("a folder") }
}

/// Makes an identity with `age-keygen`; returns its public key.
fn age_keygen(case: &Case, name: &str) -> String {
    let made = ends(case.command("age-keygen").args(["-o", name]));
    assert_eq!(made.status, Some(0), "{made:?}");
    let public = ends(case.command("age-keygen").args(["-y", name]));
    assert!(public.out.starts_with("age1"), "{public:?}");
    public.out.trim().to_owned()
}

/// Makes an identity with `callspan keys new`; returns its public key.
fn keys_new(case: &Case, name: &str) -> String {
    let made = case.run(["keys", "new", "--output", name]);
    assert_eq!(made.status, Some(0), "{made:?}");
    made.out.trim().to_owned()
}

/// Makes an SSH key with `ssh-keygen`; returns the line of its public key file.
fn ssh_keygen(case: &Case, name: &str, kind: &[&str]) -> String {
    let words = ["-q", "-N", "", "-C", "alice@example", "-f", name, "-t"];
    let made = ends(case.command("ssh-keygen").args(words).args(kind));
    assert_eq!(made.status, Some(0), "{made:?}");
    let line = fs::read_to_string(case.path(&format!("{name}.pub"))).expect("a public key");
    line.trim().to_owned()
}

/// An archive sealed to these, with a call in it; returns the call's id.
fn record(case: &Case, recipients: &[&str]) -> String {
    let mut command = case.command(CALLSPAN);
    command.args(["init", "calls"]);
    for recipient in recipients {
        command.args(["--recipient", recipient]);
    }
    let made = ends(&mut command);
    assert_eq!(made.status, Some(0), "{made:?}");
    let done = ends(case.command(CALLSPAN).arg("replay").arg(phones()));
    assert_eq!(done.status, Some(0), "{done:?}");
    case.only_call()["id"].as_str().expect("an id").to_owned()
}

fn export(case: &Case, call: &str, identity: Option<&str>) -> Ended {
    let mut words = vec!["export", call, "--format", "wav", "--output", "call.wav", "--force"];
    words.extend(identity.iter().flat_map(|identity| ["--identity", identity]));
    case.run(words)
}

/// The bytes of the exported call.
#[track_caller]
fn opens(case: &Case, call: &str, identity: &str) -> Vec<u8> {
    let done = export(case, call, Some(identity));
    assert_eq!(done.status, Some(0), "{identity}: {done:?}");
    let bytes = fs::read(case.path("call.wav")).expect("exported");
    fs::remove_file(case.path("call.wav")).expect("removed");
    assert!(bytes.len() > 2_000_000, "12 s of two channels: {}", bytes.len());
    bytes
}

/// Refused in one line that names every recipient; nothing is left.
#[track_caller]
fn refuses(case: &Case, call: &str, identity: Option<&str>, recipients: &[&str]) {
    let done = export(case, call, identity);
    done.says(1, recipients).says(1, &["is sealed", "--identity FILE"]);
    let stranger = "not for the identity that was given";
    assert_eq!(done.errors.contains(stranger), identity.is_some(), "{done:?}");
    assert_eq!(done.out, "");
    let left: Vec<_> = fs::read_dir(&case.folder).expect("a folder").flatten().collect();
    let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
    let is_left = left.iter().any(|name| name.to_string_lossy().contains("wav"));
    assert!(!is_left, "no part of a file: {left:?}");
}

#[test]
fn a_key_of_age_keygen_opens_a_recording_and_a_stranger_and_nobody_do_not() {
    let case = folder();
    let public = age_keygen(&case, "age.txt");
    keys_new(&case, "stranger.txt");
    let call = record(&case, &[&public]);
    opens(&case, &call, "age.txt");
    refuses(&case, &call, Some("stranger.txt"), &[&public]);
    refuses(&case, &call, None, &[&public]);
}

#[test]
fn each_of_two_recipients_opens_the_same_recording() {
    let case = folder();
    let (ours, theirs) = (keys_new(&case, "ours.txt"), age_keygen(&case, "theirs.txt"));
    let call = record(&case, &[&ours, &theirs]);
    assert_eq!(opens(&case, &call, "ours.txt"), opens(&case, &call, "theirs.txt"));
    keys_new(&case, "stranger.txt");
    refuses(&case, &call, Some("stranger.txt"), &[&ours, &theirs]);
    refuses(&case, &call, None, &[&ours, &theirs]);
}

#[test]
fn ssh_keys_are_recipients_and_identities() {
    for kind in [&["ed25519"][..], &["rsa", "-b", "2048"]] {
        let case = folder();
        let line = ssh_keygen(&case, "ssh", kind);
        ssh_keygen(&case, "other", kind);
        let call = record(&case, &[&line]);
        opens(&case, &call, "ssh");
        let public = line.rsplit_once(' ').map(|(key, _)| key.to_owned()).expect("a comment");
        refuses(&case, &call, Some("other"), &[&public]);
        let manifest = fs::read_to_string(case.path("calls/archive.toml")).expect("text");
        assert!(!manifest.contains("alice"), "a comment may name a person");
    }
}

#[test]
fn a_call_s_key_is_an_ordinary_age_file_that_age_opens() {
    let case = folder();
    let public = age_keygen(&case, "age.txt");
    record(&case, &[&public]);
    let keys = fs::read(case.path("calls/segments/0000000001.keys")).expect("a key file");
    // docs/archive.md, "Bytes of a key file": slots of 1,024 bytes behind 64; purpose 2 is sound.
    let mut opened = 0;
    for slot in keys[64..].chunks_exact(1_024).filter(|slot| slot[16] == 2) {
        let len = usize::from(u16::from_le_bytes([slot[18], slot[19]]));
        case.write("key.age", &slot[24..24 + len]);
        let words = ["--decrypt", "--identity", "age.txt", "--output", "key.bin", "key.age"];
        let done = ends(case.command("age").args(words));
        assert_eq!(done.status, Some(0), "{done:?}");
        assert_eq!(fs::read(case.path("key.bin")).expect("a key").len(), 32);
        opened += 1;
    }
    assert_eq!(opened, 1, "one call, one key for its sound");
}

#[test]
fn what_is_no_identity_is_refused_without_being_printed() {
    let case = folder();
    let public = keys_new(&case, "ours.txt");
    let call = record(&case, &[&public]);
    case.write("nonsense.txt", b"hunter2\n");
    let done = export(&case, &call, Some("nonsense.txt"));
    done.says(1, &["nonsense.txt", "holds no identity", "age-keygen"]);
    assert!(!done.errors.contains("hunter2"), "{done:?}");
    export(&case, &call, Some("missing.txt")).says(1, &["missing.txt"]);
    // Nor is a secret key taken for a recipient, or shown.
    let text = fs::read_to_string(case.path("ours.txt")).expect("text");
    let secret = text.lines().last().expect("a line");
    let done = case.run(["init", "other", "--recipient", secret]);
    assert!(matches!(done.status, Some(1 | 2)) && !done.errors.contains(secret), "{done:?}");
    assert!(!case.path("other").exists(), "nothing was made");
}
