//! `/metrics` as the tools that read it see it: promtool, a real Prometheus, and rude clients.
//!
//! Purpose: what we serve is what Prometheus takes, labels and values included.
//! Invariants: only loopback; every process that is started is ended by its id.
//! Non-goals: where the numbers come from (see the lab).
//! Sources: the Prometheus HTTP API, `/api/v1/query`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callspan::base::{FrameOutcome, OutcomeCounts};
use callspan::ops::http::{self, Server};
use callspan::ops::metrics::{DurationCounts, Metrics, MetricsSnapshot};

fn snapshot() -> MetricsSnapshot {
    let mut outcomes = OutcomeCounts::default();
    outcomes.add_many(FrameOutcome::Sip, 12);
    outcomes.add_many(FrameOutcome::Rtp, 100_000);
    let mut commits = DurationCounts::default();
    commits.observe(0.004);
    commits.observe(0.3);
    MetricsSnapshot {
        frames_received: 100_012,
        outcomes,
        kernel_dropped: vec![("eth\"1\\".to_owned(), 3)],
        calls_ongoing: 7,
        calls_ended: vec![("bye", 40), ("timeout", 2)],
        queue_blocks: 5,
        queue_bytes: 81_920,
        encode_seconds: 0.75,
        encoded_audio_seconds: 800.5,
        visits: 800,
        archive_bytes: 1 << 40,
        archive_free_bytes: 1 << 41,
        archive_reserve_bytes: 1 << 30,
        calls_refused: 3,
        archive_commits: 2,
        archive_commit_seconds: commits,
        spilled_bytes: 9,
        packets_dropped: vec![("queue_full", 1)],
        rtcp_reports: 12,
        rtcp_lost: 3,
        unclaimed_flows: 1,
        unaccounted: 0,
    }
}

fn server() -> Server {
    let metrics = Metrics::new(snapshot).expect("a registry");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    http::serve(loopback, metrics, Box::new(|| Ok(()))).expect("a free port on loopback")
}

/// Sends one request and returns the whole answer, head and body.
fn request(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    answer
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head and a body").1
}

/// Started, and killed by its id whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    match command.spawn() {
        Ok(child) => Running(child),
        Err(error) => panic!(
            "{}: {error}; `make deps` installs it (Debian package prometheus)",
            command.get_program().to_string_lossy()
        ),
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let server = server();
    let answer = request(server.address(), "GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"), "{answer}");
    let mut promtool = start(
        Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut input = promtool.0.stdin.take().expect("a pipe");
    input.write_all(body(&answer).as_bytes()).expect("read by promtool");
    drop(input);
    let mut complaints = String::new();
    promtool.0.stdout.take().expect("a pipe").read_to_string(&mut complaints).expect("text");
    promtool.0.stderr.take().expect("a pipe").read_to_string(&mut complaints).expect("text");
    let status = promtool.0.wait().expect("its status");
    assert!(status.success() && complaints.is_empty(), "{status}: {complaints}");
}

#[test]
fn a_real_prometheus_scrapes_every_value() {
    let server = server();
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs:\n- job_name: callspan\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  \
         static_configs:\n  - targets: ['{}']\n",
        server.address()
    );
    std::fs::write(&config, text).expect("written");
    let log = directory.path().join("log");
    // The port may be taken between here and there; nothing else on loopback is so quick.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("port").port();
    let prometheus = SocketAddr::from(([127, 0, 0, 1], port));
    let _running = start(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={prometheus}"))
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log")),
    );
    let up = wait_for(prometheus, "up", "1");
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(up.is_some(), "prometheus never saw the target up:\n{}", told());
    for (query, value) in [
        ("callspan_frames_received_total", "100012"),
        ("callspan_frames_total{outcome=\"rtp\"}", "100000"),
        ("sum(callspan_frames_total) - sum(callspan_frames_received_total)", "0"),
        ("count(callspan_frames_total)", &FrameOutcome::COUNT.to_string()),
        ("callspan_kernel_dropped_total{interface=\"eth\\\"1\\\\\"}", "3"),
        ("callspan_calls_total{end_reason=\"timeout\"}", "2"),
        ("callspan_calls_ongoing", "7"),
        ("callspan_archive_bytes_total", "1099511627776"),
        ("callspan_encode_seconds_total", "0.75"),
        ("callspan_archive_commit_seconds_count", "2"),
        ("callspan_archive_commit_seconds_bucket{le=\"0.005\"}", "1"),
        ("callspan_packets_dropped_total{reason=\"queue_full\"}", "1"),
        ("callspan_unaccounted", "0"),
        ("count(callspan_build_info{version=~\".+\"})", "1"),
    ] {
        let found = wait_for(prometheus, query, value);
        let now = || body(&request(prometheus, &query_line(query))).to_owned();
        assert!(found.is_some(), "{query} is not {value}: {}", now());
    }
}

fn query_line(query: &str) -> String {
    let mut line = String::from("GET /api/v1/query?query=");
    for byte in query.bytes() {
        let _ = write!(line, "%{byte:02X}");
    }
    line
}

/// Asks until `query` has `value`, for at most a minute of a busy machine.
fn wait_for(prometheus: SocketAddr, query: &str, value: &str) -> Option<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if TcpStream::connect(prometheus).is_ok() {
            let answer = request(prometheus, &query_line(query));
            let wanted = format!(",\"{value}\"]}}");
            if answer.contains("\"status\":\"success\"") && answer.contains(&wanted) {
                return Some(());
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

#[test]
fn only_get_of_two_paths_is_answered() {
    let server = server();
    let status = |line: &str| request(server.address(), line)[..12].to_owned();
    assert_eq!(status("GET /healthz"), "HTTP/1.1 200");
    assert_eq!(status("GET /"), "HTTP/1.1 404");
    assert_eq!(status("POST /metrics"), "HTTP/1.1 405");
    assert_eq!(status("DELETE /healthz"), "HTTP/1.1 405");
}

#[test]
fn healthz_says_why_it_is_not_well() {
    let metrics = Metrics::new(snapshot).expect("a registry");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let health = Box::new(|| Err("eth1 is gone".to_owned()));
    let server = http::serve(loopback, metrics, health).expect("a free port");
    let answer = request(server.address(), "GET /healthz");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(body(&answer), "eth1 is gone\n");
}

#[test]
fn a_taken_address_is_one_line_that_says_what_to_do() {
    let first = server();
    let metrics = Metrics::new(snapshot).expect("a registry");
    let second = http::serve(first.address(), metrics, Box::new(|| Ok(())));
    let message = second.err().expect("taken").to_string();
    assert!(message.starts_with("cannot serve metrics on 127.0.0.1:"), "{message}");
    assert!(message.contains("--metrics ADDR") && !message.contains('\n'), "{message}");
}

#[test]
fn a_client_that_says_nothing_does_not_hold_up_the_end() {
    let server = server();
    let address = server.address();
    let idle = TcpStream::connect(address).expect("connected");
    let mut half = TcpStream::connect(address).expect("connected");
    half.write_all(b"GET /metrics HT").expect("sent");
    assert!(request(address, "GET /healthz").contains("ok"), "both clients are accepted by now");
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    drop((idle, half));
}
