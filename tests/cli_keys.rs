//! `recipients`, `drill`, `evidence`, `timestamp` and `--disk-reserve`, with the real program.
//!
//! Purpose: who can open a recording changes as it is said, what is handed out proves what it says,
//! and a short disk is told.
//! Invariants: the bundled capture is the call; keys are made by the program itself.
//! Non-goals: identities of other tools (see archive_identities).
//! Sources: docs/keys.md, docs/archive.md.

mod robust_common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use robust_common::{CALLSPAN, Case, Ended, ends, phones};

fn run(case: &Case, words: &str) -> Ended {
    let mut command = case.command(CALLSPAN);
    command.args(words.split(' ')).env("CALLSPAN_ARCHIVE", "kept");
    ends(&mut command)
}

fn succeeds(case: &Case, words: &str) -> String {
    let done = run(case, words);
    assert_eq!(done.status, Some(0), "{words}: {done:?}");
    done.out.trim().to_owned()
}

/// An archive sealed to `one.key` with one call in it; returns the call's id.
fn sealed(case: &Case) -> String {
    let public = succeeds(case, "keys new --output one.key");
    succeeds(case, &format!("init kept --recipient {public}"));
    let replay = format!("replay {}", phones().display());
    succeeds(case, &replay);
    let json = succeeds(case, "calls --json");
    let call: serde_json::Value = serde_json::from_str(&json).expect("one call");
    call["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_new_recipient_opens_new_calls_at_once_and_old_ones_after_rewrapping() {
    let case = Case::new();
    sealed(&case);
    let two = succeeds(&case, "keys new --output two.key");
    succeeds(&case, &format!("recipients add {two}"));
    assert_eq!(succeeds(&case, "recipients list").lines().count(), 2);
    // A checkpoint kept elsewhere holds, with whatever line feeds a tool put behind it.
    let json: serde_json::Value =
        serde_json::from_str(&succeeds(&case, "verify --json")).expect("one object");
    let note = json["checkpoint"].as_str().expect("a checkpoint");
    case.write("kept.txt", format!("{note}\n").as_bytes());
    succeeds(&case, "verify --checkpoint kept.txt");
    run(&case, "drill --identity two.key").says(1, &["sealed", "not for the identity"]);
    let stranger = succeeds(&case, "keys new --output three.key");
    assert_ne!(stranger, two);
    let refused = run(&case, "recipients rewrap --identity three.key");
    assert_eq!(refused.status, Some(3), "{refused:?}");
    assert!(refused.errors.contains("1 keys do not open"), "{refused:?}");
    succeeds(&case, "recipients rewrap --identity one.key");
    succeeds(&case, "drill --identity two.key");
    succeeds(&case, "verify");
    // The old one goes: what was wrapped for it alone before is wrapped for it no more.
    let one = succeeds(&case, "recipients list").lines().next().expect("one").to_owned();
    succeeds(&case, &format!("recipients remove {one}"));
    succeeds(&case, "recipients rewrap --identity two.key");
    run(&case, "drill --identity one.key").says(1, &["not for the identity"]);
    succeeds(&case, "drill --identity two.key");
    succeeds(&case, "verify");
    run(&case, &format!("recipients remove {one}")).says(1, &["no recipient here"]);
    run(&case, &format!("recipients remove {two}")).says(1, &["1 to 64 recipients"]);
}

#[test]
fn evidence_holds_without_the_archive_and_every_change_of_it_is_found() {
    let case = Case::new();
    let id = sealed(&case);
    run(&case, &format!("evidence {id} --output court")).says(1, &["sealed", "--identity"]);
    succeeds(&case, &format!("evidence {id} --output court --identity one.key"));
    succeeds(&case, &format!("export {id} --format opus --output call.opus -i one.key"));
    let (mine, theirs) = (case.path("call.opus"), case.path("court/recording.opus"));
    assert_eq!(std::fs::read(mine).expect("read"), std::fs::read(theirs).expect("read"));
    // Nothing of the archive is needed any more.
    std::fs::rename(case.path("kept"), case.path("gone")).expect("moved");
    std::fs::rename(case.path("kept.keys"), case.path("gone.keys")).expect("moved");
    succeeds(&case, "verify-evidence court");
    let toml = std::fs::read_to_string(case.path("gone/archive.toml")).expect("text");
    let key = toml.lines().find_map(|line| line.strip_prefix("signing_key = ")).expect("a key");
    succeeds(&case, &format!("verify-evidence court --public-key {}", key.trim_matches('"')));
    run(&case, "verify-evidence court --public-key other+00000000+AAAA")
        .says(1, &["another public key"]);
    for name in ["call.json", "recording.opus", "records.bin", "proof.json"] {
        let path = case.path("court").join(name);
        let whole = std::fs::read(&path).expect("read");
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&path, &changed).expect("written");
        run(&case, "verify-evidence court").says(1, &[name]);
        // Whoever changes a file can change the list of hashes as well.
        let sums = "cd court && cp SHA256SUMS ../sums && sha256sum $(cut -c67- SHA256SUMS) > s && mv s SHA256SUMS";
        assert!(case.command("bash").args(["-c", sums]).status().expect("bash").success());
        assert_eq!(run(&case, "verify-evidence court").status, Some(1), "{name}");
        std::fs::write(&path, &whole).expect("written");
        std::fs::rename(case.path("sums"), case.path("court/SHA256SUMS")).expect("put back");
    }
    succeeds(&case, "verify-evidence court");
}

/// OpenSSL's responder behind HTTP, for one request.
fn responder(case: &Case) -> (String, std::thread::JoinHandle<()>) {
    let directory = case.path("authority");
    std::fs::create_dir_all(&directory).expect("made");
    let set_up = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
        -subj /CN=tsa -addext extendedKeyUsage=critical,timeStamping 2>/dev/null && echo 01 > serial && \
        printf '[tsa]\\ndefault_tsa=t\\n[t]\\nserial=serial\\nsigner_cert=cert.pem\\n\
signer_key=key.pem\\nsigner_digest=sha256\\ndefault_policy=1.2.3\\ndigests=sha256\\n' > tsa.cnf";
    let made = Command::new("bash").args(["-c", set_up]).current_dir(&directory).status();
    assert!(made.expect("bash").success(), "openssl makes an authority");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut request, mut chunk) = (Vec::new(), [0; 4_096]);
        let body = loop {
            let read = stream.read(&mut chunk).expect("a request");
            request.extend_from_slice(&chunk[..read]);
            let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").trim().parse().expect("a number");
            if request.len() >= end + 4 + length {
                break request[end + 4..].to_vec();
            }
        };
        std::fs::write(directory.join("query"), body).expect("written");
        let reply = "openssl ts -reply -config tsa.cnf -section t -queryfile query -out reply";
        let mut answer = Command::new("bash");
        answer.args(["-c", reply]).current_dir(&directory).stderr(Stdio::null());
        assert!(answer.status().expect("bash").success(), "openssl answers");
        let reply = std::fs::read(directory.join("reply")).expect("a reply");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/timestamp-reply\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            reply.len()
        );
        stream.write_all(&[head.as_bytes(), &reply].concat()).expect("sent");
    };
    (url, std::thread::spawn(serve))
}

#[test]
fn a_checkpoint_is_stamped_once_and_openssl_believes_it() {
    let case = Case::new();
    let id = sealed(&case);
    let (url, served) = responder(&case);
    let done = run(&case, &format!("timestamp --url {url}"));
    assert_eq!(done.status, Some(0), "{done:?}");
    served.join().expect("one request");
    assert!(done.errors.contains("1 checkpoints stamped"), "{done:?}");
    // Nobody listens there any more, and nobody is asked.
    let again = run(&case, &format!("timestamp --url {url}"));
    assert!(again.errors.contains("0 checkpoints stamped; 1 had a stamp"), "{again:?}");
    succeeds(&case, &format!("evidence {id} --output court --identity one.key"));
    let check = "openssl ts -verify -in court/timestamp-0000000001.tsr \
                 -data court/checkpoint-0000000001.txt -CAfile authority/cert.pem";
    let checked = ends(case.command("bash").args(["-c", check]));
    assert_eq!(checked.status, Some(0), "{checked:?}");
    succeeds(&case, "verify");
}

#[test]
fn a_disk_down_to_its_reserve_takes_no_new_call_and_says_so() {
    let case = Case::new();
    succeeds(&case, "init kept --plaintext");
    let replay = format!("replay {} --disk-reserve 9000T", phones().display());
    let done = run(&case, &replay);
    assert_eq!(done.status, Some(3), "{done:?}");
    assert!(done.errors.contains("1 calls were not recorded: the disk was"), "{done:?}");
    assert!(done.notices.contains("WARN"), "a plaintext archive says so: {done:?}");
    let call: serde_json::Value =
        serde_json::from_str(&succeeds(&case, "calls --json")).expect("one call");
    assert_eq!(call["recording"]["state"], "none", "{call}");
    assert!(call["notes"][0].as_str().expect("a note").contains("reserve"), "{call}");
    assert!(call["streams"][0]["packets"].as_u64().expect("packets") > 100, "still measured");
}

#[test]
fn each_checkpoint_is_copied_off_the_box_and_betrays_a_rollback() {
    let case = Case::new();
    sealed(&case);
    let before = case.path("before");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = ends(case.command("cp").arg("-a").arg(from).arg(to));
        assert_eq!(done.status, Some(0), "{done:?}");
    };
    copy(&case.path("kept"), &before);
    let replay = format!("replay {} --checkpoint-to elsewhere", phones().display());
    run(&case, &replay).says(1, &["cannot copy checkpoints to elsewhere", "make the directory"]);
    std::fs::create_dir(case.path("elsewhere")).expect("made");
    succeeds(&case, &replay);
    let copies = std::fs::read_dir(case.path("elsewhere")).expect("listed");
    let mut names: Vec<_> = copies.map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    let newest = names.last().expect("a checkpoint").display().to_string();
    assert!(newest.ends_with("-0000000002.checkpoint"), "{newest}");
    succeeds(&case, &format!("verify --checkpoint {newest}"));
    // The whole archive is put back to what it was.
    std::fs::remove_dir_all(case.path("kept")).expect("removed");
    copy(&before, &case.path("kept"));
    succeeds(&case, "verify");
    run(&case, &format!("verify --checkpoint {newest}")).says(1, &["rolled back"]);
}
