//! Calls recorded live from a mirror port, by the built program, in the lab's namespaces.
//!
//! Purpose: issue 3's live recording: right call, silent port, orderly and disorderly ends.
//! Invariants: needs root and the lab's tools, and fails without (`make deps`); each test has a lab
//! of its own, which is gone when the test ends.
//! Non-goals: how good it sounds (see the lab's judge).
//! Sources: tests/lab/README.md.

#![allow(clippy::float_cmp, reason = "counters are whole numbers")]

mod robust_common;

use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use robust_common::{CALLSPAN, Case, Ended, ends, lab, loudness, signal, until, wait};
use serde_json::Value;

/// A lab of one test: phones `a` and `b`, a switch, and `probe` with `span0`.
struct Lab {
    prefix: String,
}

impl Lab {
    fn new(case: &Case, name: &str) -> Self {
        robust_common::needs_root();
        for tool in ["ip", "tc", "ethtool", "baresip", "sipp", "espeak-ng", "sox", "tcpdump"] {
            let found = Command::new("which").arg(tool).stdout(Stdio::null()).status();
            assert!(found.is_ok_and(|status| status.success()), "no {tool}: run `make deps`");
        }
        let this = Self { prefix: format!("t{}{name}", std::process::id() % 100_000) };
        let made = ends(this.command(case).arg("up"));
        assert_eq!(made.status, Some(0), "{made:?}");
        this
    }

    fn command(&self, case: &Case) -> Command {
        let mut command = case.command(lab("lab"));
        command.env("LAB_PREFIX", &self.prefix);
        command
    }

    /// A command on the probe.
    fn probe(&self, case: &Case, program: &str) -> Command {
        let mut command = case.command("ip");
        command.args(["netns", "exec", &format!("{}-probe", self.prefix), program]);
        command
    }

    /// Starts `callspan capture` on the probe and waits until it listens.
    fn capture(&self, case: &Case, flags: &[&str]) -> Child {
        let mut command = self.probe(case, CALLSPAN);
        command.args(["capture", "--interface", "span0", "--json"]).args(flags);
        command.stderr(std::fs::File::create(case.path("stderr")).expect("a file"));
        let child = command.spawn().expect("starts");
        let said = || std::fs::read_to_string(case.path("stderr")).unwrap_or_default();
        until("recording", || said().contains("recording").then_some(()));
        child
    }

    /// Starts a real call of some seconds from `a` to `b`.
    fn call(&self, case: &Case, capture: &str, seconds: &str) -> Child {
        let mut command = self.command(case);
        command.args(["call", "PCMA/8000/1", capture, seconds, "udp"]).spawn().expect("starts")
    }

    /// The port sent nothing: neither packets nor bytes.
    #[track_caller]
    fn is_silent(&self, case: &Case) {
        let mut show = self.probe(case, "ip");
        let told = ends(show.args(["-s", "-j", "link", "show", "span0"]));
        let links: Value = serde_json::from_str(&told.out).expect("JSON");
        let sent = &links[0]["stats64"]["tx"];
        assert_eq!((&sent["packets"], &sent["bytes"]), (&0.into(), &0.into()), "{links}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new(lab("lab")).arg("down").env("LAB_PREFIX", &self.prefix).status();
    }
}

/// What `ip netns exec` runs is the process itself, so it ends as the program ends.
fn ended(case: &Case, child: Child) -> Ended {
    let mut done = wait(child);
    done.errors = std::fs::read_to_string(case.path("stderr")).expect("written");
    done
}

/// Lines of the program itself, without its log.
fn complaints(done: &Ended) -> Vec<&str> {
    done.errors.lines().filter(|line| line.starts_with("callspan: ")).collect()
}

/// Metrics, read inside the probe's namespace.
fn scrape(lab: &Lab, case: &Case, port: u16) -> String {
    let script = format!(
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    );
    let done = ends(lab.probe(case, "python3").args(["-c", &script]));
    assert_eq!(done.status, Some(0), "{done:?}");
    done.out
}

fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[track_caller]
fn is_the_phones_call(call: &Value) {
    assert_eq!(call["caller"]["number"], "4820001001", "{call}");
    assert_eq!(call["callee"]["number"], "4830002002", "{call}");
    assert_eq!(call["verdict"], "both", "{call}");
    let streams = call["streams"].as_array().expect("streams");
    assert!(
        streams.iter().all(|stream| stream["codec"] == "PCMA" && stream["lost"] == 0),
        "{call}"
    );
}

/// Parties, codecs and packets of a call, whatever its times.
fn gist(call: &Value) -> Value {
    let streams = call["streams"].as_array().expect("streams").iter().map(|stream| {
        ["channel", "codec", "ssrc", "source", "destination", "packets", "lost"]
            .map(|key| stream[key].clone())
    });
    let streams: Vec<_> = streams.collect();
    serde_json::json!([
        call["caller"],
        call["callee"],
        call["sip_call_ids"],
        call["state"],
        streams
    ])
}

#[test]
fn a_real_call_is_recorded_live_as_it_is_from_a_file_and_the_port_stays_silent() {
    let (case, file) = (Case::new(), Case::new());
    let lab = Lab::new(&case, "live");
    let recorder = lab.capture(&case, &["--metrics", "127.0.0.1:9464"]);
    let capture = case.path("call.pcap");
    let phones = lab.call(&case, capture.to_str().expect("text"), "6");
    let ongoing =
        || (metric(&scrape(&lab, &case, 9464), "callspan_calls_ongoing") >= 1.0).then_some(());
    until("the call", ongoing);
    let during = scrape(&lab, &case, 9464);
    assert!(metric(&during, "callspan_unaccounted").abs() < 0.5, "{during}");
    let called = wait(phones);
    assert_eq!(called.status, Some(0), "{called:?}");
    let after = scrape(&lab, &case, 9464);
    assert!(metric(&after, "callspan_unaccounted").abs() < 0.5, "{after}");
    lab.is_silent(&case);
    signal(&recorder, Signal::SIGTERM);
    let done = ended(&case, recorder);
    assert_eq!((done.status, complaints(&done).len()), (Some(0), 0), "{done:?}");
    let report = done.report();
    assert_eq!(report["calls"], serde_json::json!({"seen": 1, "recorded": 1, "truncated": 0}));
    lab.is_silent(&case);
    let call = case.only_call();
    is_the_phones_call(&call);
    assert!(case.channels(&call).iter().all(|side| loudness(side) > 100.0), "both are heard");
    let replayed = file.run(["replay".as_ref(), capture.as_os_str(), "--json".as_ref()]);
    assert_eq!(replayed.status, Some(0), "{replayed:?}");
    assert_eq!(gist(&file.only_call()), gist(&call));
}

#[test]
fn two_threads_of_a_fanout_give_the_same_call() {
    let (case, file) = (Case::new(), Case::new());
    let lab = Lab::new(&case, "fan");
    let recorder = lab.capture(&case, &["--capture-threads", "2"]);
    let capture = case.path("call.pcap");
    let called = wait(lab.call(&case, capture.to_str().expect("text"), "5"));
    assert_eq!(called.status, Some(0), "{called:?}");
    signal(&recorder, Signal::SIGTERM);
    let done = ended(&case, recorder);
    assert_eq!(done.status, Some(0), "{done:?}");
    done.report();
    let call = case.only_call();
    is_the_phones_call(&call);
    assert!(case.channels(&call).iter().all(|side| loudness(side) > 100.0), "both are heard");
    assert_eq!(file.run(["replay".as_ref(), capture.as_os_str()]).status, Some(0));
    assert_eq!(gist(&file.only_call()), gist(&call));
    lab.is_silent(&case);
}

#[test]
fn a_call_that_goes_on_at_sigterm_is_truncated_and_can_be_heard_until_then() {
    let case = Case::new();
    let lab = Lab::new(&case, "cut");
    let recorder = lab.capture(&case, &[]);
    let phones = lab.call(&case, "-", "9");
    until("the call", || (!case.calls().is_empty()).then_some(()));
    // Three seconds of it: what passes here is the phones' time, not ours.
    std::thread::sleep(std::time::Duration::from_secs(3));
    signal(&recorder, Signal::SIGTERM);
    let done = ended(&case, recorder);
    assert_eq!((done.status, complaints(&done).len()), (Some(3), 1), "{done:?}");
    assert!(complaints(&done)[0].contains("still going on"), "{done:?}");
    assert_eq!(done.report()["calls"]["truncated"], 1);
    let call = case.only_call();
    assert_eq!((&call["state"], &call["end_reason"]), (&"truncated".into(), &"shutdown".into()));
    let seconds = call["recording"]["seconds"].as_f64().expect("a length");
    assert!((2.0..8.0).contains(&seconds), "{call}");
    assert!(case.channels(&call).iter().all(|side| loudness(side) > 100.0), "both are heard");
    wait(phones);
    lab.is_silent(&case);
}

#[test]
fn an_interface_that_goes_away_ends_the_run_with_one_line_and_keeps_what_was_recorded() {
    let case = Case::new();
    let lab = Lab::new(&case, "gone");
    let recorder = lab.capture(&case, &[]);
    let phones = lab.call(&case, "-", "8");
    until("the call", || (!case.calls().is_empty()).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let removed = ends(lab.probe(&case, "ip").args(["link", "delete", "span0"]));
    assert_eq!(removed.status, Some(0), "{removed:?}");
    let done = ended(&case, recorder);
    assert_eq!((done.status, complaints(&done).len()), (Some(1), 1), "{done:?}");
    assert!(complaints(&done)[0].contains("interface span0 is gone or down"), "{done:?}");
    assert_eq!(done.report()["calls"]["truncated"], 1);
    let call = case.only_call();
    assert_eq!(call["state"], "truncated", "{call}");
    assert!(case.channels(&call).iter().all(|side| loudness(side) > 100.0), "both are heard");
    wait(phones); // its own check of span0 fails: the port is gone
}

#[test]
fn fifty_calls_of_sipp_are_all_recorded() {
    let case = Case::new();
    let lab = Lab::new(&case, "load");
    let recorder = lab.capture(&case, &["--metrics", "127.0.0.1:9464"]);
    let load = ends(lab.command(&case).args(["load", "50", "10", "-", "4"]));
    assert_eq!(load.status, Some(0), "{load:?}");
    let text = scrape(&lab, &case, 9464);
    assert!(metric(&text, "callspan_unaccounted").abs() < 0.5, "{text}");
    assert!(metric(&text, "callspan_kernel_dropped_total").abs() < 0.5, "{text}");
    signal(&recorder, Signal::SIGTERM);
    let done = ended(&case, recorder);
    assert_eq!(done.status, Some(0), "{done:?}");
    let report = done.report();
    assert_eq!(report["frames"]["kernel_dropped"], 0, "{report}");
    assert_eq!(report["calls"]["recorded"], 50, "{report}");
    let calls = case.calls();
    assert_eq!(calls.len(), 50);
    for call in &calls {
        let told = (&call["state"], &call["verdict"]);
        assert_eq!(told, (&"ended".into(), &"both".into()), "{call} of {report}");
    }
    lab.is_silent(&case);
}
