//! HEP received on a socket of our own: the same call comes out as from the capture.
//!
//! Purpose: a sender over loopback, as agents send, against a capture process without an interface.
//! Invariants: messages are built here, by the drawing in `net::hep`; times in them are the capture's, moved to now.
//! Non-goals: HEP's fields and faults (see `net::hep`).
//! Sources: HEP3 of the Homer project, revision 12.

mod robust_common;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use robust_common::{CALLSPAN, Case, phones, signal, until, wait};
use serde_json::Value;

/// How much faster than it was the call is sent.
const SPEED: u32 = 2;

/// A UDP datagram of the capture.
struct Datagram {
    /// Since the first one.
    at: Duration,
    addresses: [u8; 8],
    ports: [u8; 4],
    payload: Vec<u8>,
}

fn datagrams(capture: &[u8]) -> Vec<Datagram> {
    let (mut rest, mut found) = (&capture[24..], Vec::<Datagram>::new());
    let mut first = None;
    while let Some((record, behind)) = rest.split_first_chunk::<16>() {
        let field = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("4 bytes"));
        let (frame, next) = behind.split_at(field(8) as usize);
        rest = next;
        let time = Duration::new(u64::from(field(0)), field(4) * 1_000);
        if frame[12..14] == [8, 0] && frame[23] == 17 {
            let length = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
            found.push(Datagram {
                at: time.saturating_sub(*first.get_or_insert(time)),
                addresses: frame[26..34].try_into().expect("8 bytes"),
                ports: frame[34..38].try_into().expect("4 bytes"),
                payload: frame[42..34 + length].to_vec(),
            });
        }
    }
    found
}

fn hep3(datagram: &Datagram, began: Duration) -> Vec<u8> {
    let chunk = |kind: u8, value: &[u8]| {
        let length = u16::try_from(6 + value.len()).expect("short").to_be_bytes();
        [&[0, 0, 0, kind][..], &length, value].concat()
    };
    let time = began + datagram.at;
    let seconds = u32::try_from(time.as_secs()).expect("this century");
    let chunks = [
        chunk(1, &[2]),
        chunk(2, &[17]),
        chunk(3, &datagram.addresses[..4]),
        chunk(4, &datagram.addresses[4..]),
        chunk(7, &datagram.ports[..2]),
        chunk(8, &datagram.ports[2..]),
        chunk(9, &seconds.to_be_bytes()),
        chunk(10, &time.subsec_micros().to_be_bytes()),
        chunk(11, &[if datagram.payload[0] >= 0x80 { 34 } else { 1 }]),
        chunk(12, &7_u32.to_be_bytes()),
        chunk(15, &datagram.payload),
    ]
    .concat();
    let length = u16::try_from(6 + chunks.len()).expect("short").to_be_bytes();
    [b"HEP3", &length[..], &chunks].concat()
}

fn hep2(datagram: &Datagram, began: Duration) -> Vec<u8> {
    let time = began + datagram.at;
    let seconds = u32::try_from(time.as_secs()).expect("this century");
    let head = [2, 16, 2, 17];
    let times = [seconds.to_le_bytes(), time.subsec_micros().to_le_bytes(), [0; 4]].concat();
    [&head[..], &datagram.ports, &datagram.addresses, &times, &datagram.payload].concat()
}

/// How an agent sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Udp3,
    Udp2,
    Tcp,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// What came of the call when it was sent as HEP, and the run's report.
fn received(case: &Case, capture: &[u8], how: How) -> (Value, Value) {
    let address = free_address();
    let mut command = case.command(CALLSPAN);
    command.args(["capture", "--hep-listen", &address.to_string(), "--json", "--archive", "calls"]);
    let child = command.spawn().expect("it starts");
    let stream = until("the listener", || TcpStream::connect(address).ok());
    let (mut stream, socket) = (stream, UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let began = SystemTime::now();
    let epoch = began.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    for datagram in datagrams(capture) {
        let due = datagram.at / SPEED;
        std::thread::sleep(due.saturating_sub(began.elapsed().unwrap_or_default()));
        match how {
            How::Tcp => stream.write_all(&hep3(&datagram, epoch)).expect("sent"),
            How::Udp3 => drop(socket.send_to(&hep3(&datagram, epoch), address).expect("sent")),
            How::Udp2 => drop(socket.send_to(&hep2(&datagram, epoch), address).expect("sent")),
        }
    }
    drop(stream);
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::SIGTERM);
    let ended = wait(child);
    assert_eq!(ended.status, Some(0), "{how:?} {ended:?}");
    (case.only_call(), ended.report())
}

fn told(call: &Value) -> Value {
    let streams = call["streams"].as_array().expect("streams").iter();
    let streams: Vec<_> = streams
        .map(|stream| {
            ["channel", "codec", "ssrc", "source", "destination", "packets", "lost", "late"]
                .map(|key| stream[key].clone())
        })
        .collect();
    serde_json::json!([call["verdict"], call["caller"], call["recording"]["seconds"], streams])
}

#[test]
fn a_call_that_agents_send_is_the_call_of_the_capture() {
    let capture = std::fs::read(phones()).expect("the bundled capture");
    let case = Case::new();
    let path = case.write("call.pcap", &capture);
    let done = case.run(["replay".as_ref(), path.as_os_str()]);
    assert_eq!(done.status, Some(0), "{done:?}");
    let replayed = case.only_call();
    let sound = case.channels(&replayed);
    for how in [How::Udp3, How::Udp2, How::Tcp] {
        let case = Case::new();
        let (call, report) = received(&case, &capture, how);
        assert_eq!(told(&call), told(&replayed), "{how:?}");
        assert!(case.channels(&call) == sound, "{how:?}: the sound differs");
        assert_eq!(report["frames"]["received"], datagrams(&capture).len(), "{how:?} {report}");
    }
}

#[test]
fn what_is_not_hep_is_counted_and_its_connection_closed() {
    let case = Case::new();
    let address = free_address();
    let mut command = case.command(CALLSPAN);
    command.args(["capture", "--hep-listen", &address.to_string(), "--json", "--archive", "calls"]);
    let child = command.spawn().expect("it starts");
    let mut stream = until("the listener", || TcpStream::connect(address).ok());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"INVITE sip:nobody SIP/2.0", address).expect("sent");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    let closed = until("the end of the connection", || {
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        std::io::Read::read(&mut stream, &mut [0; 10]).ok()
    });
    assert_eq!(closed, 0, "nothing is answered");
    signal(&child, Signal::SIGTERM);
    let report = wait(child).report();
    assert_eq!(report["frames"]["by_outcome"]["malformed_link"], 1, "{report}");
}
