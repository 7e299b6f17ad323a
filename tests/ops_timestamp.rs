//! Timestamps from OpenSSL's own service, and from services that are no good.
//!
//! Purpose: show that a real RFC 3161 service understands our request, that we understand its
//! answer, and that `openssl ts -verify` believes what we keep.
//! Invariants: everything is on 127.0.0.1 and in a temporary folder; the CA lives for one test.
//! Non-goals: public services.
//! Sources: RFC 3161; openssl-ts(1).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use callspan::archive::merkle::{Hash, sha256};
use callspan::archive::timestamp::{TimestampFault, request};
use callspan::ops::timestamp_client::{TimestampError, fetch};

const LIMIT: Duration = Duration::from_secs(20);
const NONCE: u64 = 0x8122_3344_5566_7788;
const REPLY: &str = "200 OK\r\ncontent-type: application/timestamp-reply";

const CONFIG: &str = "
[req]
distinguished_name = name
prompt = no
[name]
CN = A throw-away CA
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
[tsa]
basicConstraints = CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[ts]
default_tsa = service
[service]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = DIGESTS
accuracy = secs:1
";

fn digest() -> Hash {
    sha256(&[b"a checkpoint"])
}

/// Runs OpenSSL in `folder`; what it prints if it fails ends the test.
fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
}

/// A CA and a timestamping certificate; `digests` are those that the service takes.
fn certificates(digests: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let config = CONFIG.replace("DIGESTS", digests);
    std::fs::write(path.join("ts.cnf"), config).expect("the folder is ours");
    std::fs::write(path.join("serial"), "01\n").expect("the folder is ours");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-config", "ts.cnf", "-extensions", "ca", "-days", "2"];
    openssl(path, &[&ca[..], &key, &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
    let ask = ["req", "-config", "ts.cnf", "-subj", "/CN=A throw-away TSA"];
    openssl(path, &[&ask[..], &key, &["-keyout", "tsa.key", "-out", "tsa.csr"]].concat());
    let sign =
        ["x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"];
    let rest = ["-set_serial", "2", "-extfile", "ts.cnf", "-extensions", "tsa", "-out", "tsa.pem"];
    openssl(path, &[&sign[..], &rest].concat());
    folder
}

/// What `openssl ts -reply` answers to `query`.
fn reply(folder: &Path, query: &[u8]) -> Vec<u8> {
    std::fs::write(folder.join("query"), query).expect("the folder is ours");
    let arguments = ["ts", "-reply", "-config", "ts.cnf", "-section", "service"];
    // A refusal is an answer too, and OpenSSL's exit status does not matter for it.
    let files = ["-queryfile", "query", "-out", "reply"];
    let output = Command::new("openssl").args(arguments).args(files).current_dir(folder).output();
    let said = output.expect("openssl is installed").stderr;
    let made = std::fs::read(folder.join("reply"));
    made.unwrap_or_else(|_| panic!("no reply: {}", String::from_utf8_lossy(&said)))
}

/// A service that takes one request and answers with what `answer` makes of its body: the head of
/// an HTTP answer, and its content.
fn service(
    answer: impl FnOnce(&[u8]) -> (String, Vec<u8>) + Send + 'static,
) -> (String, JoinHandle<String>) {
    let (listener, url) = listen();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client comes");
        let (head, body) = read_request(&mut stream);
        let (status, content) = answer(&body);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", content.len());
        // A client that has seen enough may have gone.
        let _ = stream.write_all(&[answer.as_bytes(), &content].concat());
        head
    });
    (url, thread)
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let url = format!("http://{}/tsa", listener.local_addr().expect("an address"));
    (listener, url)
}

fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut some = [0; 4096];
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |text| text.trim().parse().expect("a number"));
            if bytes.len() >= at + 4 + length {
                return (head, bytes[at + 4..].to_vec());
            }
        }
        let read = stream.read(&mut some).expect("the client sends");
        assert!(read > 0, "the request was cut");
        bytes.extend_from_slice(&some[..read]);
    }
}

#[test]
fn a_real_service_grants_a_timestamp_that_openssl_verifies() {
    let folder = certificates("sha256");
    let path: PathBuf = folder.path().to_owned();
    let (url, thread) = service(move |query| (REPLY.to_owned(), reply(&path, query)));
    let timestamp = fetch(&url, &digest(), NONCE, LIMIT).expect("it is granted");
    let head = thread.join().expect("the service ends");
    assert!(head.starts_with("post /tsa http/1.1"), "{head}");
    assert!(head.contains("content-type: application/timestamp-query"), "{head}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_nanos()).expect("before 2262");
    assert!((now - timestamp.time_ns).abs() < 60_000_000_000, "{}", timestamp.time_ns);

    std::fs::write(folder.path().join("kept"), &timestamp.response).expect("the folder is ours");
    let hex = digest().to_hex();
    let verify = ["ts", "-verify", "-in", "kept", "-CAfile", "ca.pem", "-digest", &hex];
    openssl(folder.path(), &verify);
    // The very request, nonce included.
    std::fs::write(folder.path().join("asked"), request(&digest(), NONCE)).expect("ours");
    openssl(
        folder.path(),
        &["ts", "-verify", "-in", "kept", "-CAfile", "ca.pem", "-queryfile", "asked"],
    );
}

#[test]
fn a_service_that_does_not_take_sha_256_refuses() {
    let folder = certificates("sha512");
    let path = folder.path().to_owned();
    let (url, thread) = service(move |query| (REPLY.to_owned(), reply(&path, query)));
    let error = fetch(&url, &digest(), NONCE, LIMIT).expect_err("it is refused");
    thread.join().expect("the service ends");
    let TimestampError::Answer { fault: TimestampFault::Refused { status: 2, failure }, .. } =
        error
    else {
        panic!("{error}")
    };
    assert_eq!(failure, Some(0), "badAlg");
    let text = error.to_string();
    assert!(text.contains("refused (status 2, badAlg)") && text.contains(&url), "{text}");
}

#[test]
fn a_real_timestamp_of_something_else_or_of_another_request_is_refused() {
    let folder = certificates("sha256");
    let path = folder.path().to_owned();
    let other = reply(&path, &request(&sha256(&[b"another"]), NONCE));
    let old = reply(&path, &request(&digest(), 7));
    for (bytes, expected) in
        [(other, TimestampFault::OtherDigest), (old, TimestampFault::OtherNonce)]
    {
        let (url, thread) = service(move |_| (REPLY.to_owned(), bytes));
        let error = fetch(&url, &digest(), NONCE, LIMIT).expect_err("it is not ours");
        thread.join().expect("the service ends");
        assert!(
            matches!(error, TimestampError::Answer { fault, .. } if fault == expected),
            "{error}"
        );
    }
}

#[test]
fn garbage_and_pages_and_too_much_are_told_apart() {
    let ask = |head: &'static str, content: Vec<u8>| {
        let (url, thread) = service(move |_| (head.to_owned(), content));
        let error = fetch(&url, &digest(), NONCE, LIMIT).expect_err("it is no timestamp");
        thread.join().expect("the service ends");
        error
    };
    let garbage = ask(REPLY, b"\x30\x84\xff\xff\xff\xffgarbage".to_vec());
    let malformed = TimestampFault::Malformed;
    assert!(matches!(garbage, TimestampError::Answer { fault, .. } if fault == malformed));
    let page = ask("200 OK\r\ncontent-type: text/html", b"<html>".to_vec());
    assert!(matches!(page, TimestampError::NoService { status: 200, .. }), "{page}");
    let missing = ask("404 Not Found", b"no".to_vec());
    assert!(matches!(missing, TimestampError::NoService { status: 404, .. }), "{missing}");
    let moved = ask("302 Found\r\nlocation: http://127.0.0.1:1/", vec![]);
    assert!(matches!(moved, TimestampError::NoService { status: 302, .. }), "{moved}");
    let long = ask(REPLY, vec![0x30; (64 << 10) + 1]);
    assert!(matches!(long, TimestampError::TooLong { .. }), "{long}");
}

#[test]
fn a_service_that_hangs_is_given_up_in_time() {
    // The kernel takes the connection, and nobody ever reads from it.
    let (listener, url) = listen();
    let begun = Instant::now();
    let limit = Duration::from_millis(300);
    let error = fetch(&url, &digest(), NONCE, limit).expect_err("nobody answers");
    assert!(matches!(error, TimestampError::Slow { .. }), "{error}");
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert!(error.to_string().contains("did not answer in 300 ms"), "{error}");
    drop(listener);
    let error = fetch(&url, &digest(), NONCE, LIMIT).expect_err("nobody listens");
    assert!(matches!(error, TimestampError::Transport { .. }), "{error}");
}

#[test]
fn only_http_addresses_are_asked() {
    for url in ["", "tsa.example", "https://tsa.example/", "ftp://tsa.example/", "http://"] {
        let error = fetch(url, &digest(), NONCE, LIMIT).expect_err("no address");
        assert!(matches!(error, TimestampError::Address { .. }), "{url}: {error}");
    }
}
