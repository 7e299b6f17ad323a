//! Real rings on real (virtual) cables. Needs root: without it these tests fail, they never skip.
//!
//! Each test moves its thread into a network namespace of its own, which the kernel removes with
//! everything in it when the thread ends, however it ends. In it stand `tap`, where we listen, and
//! `peer`, the cable's other end.

mod capture_common;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::Command;

use callspan::base::{FrameSource, LinkType, Polled};
use callspan::capture::{CaptureError, ErrorClass, FanoutGroup, RingOptions, RingSource};
use capture_common::{Collect, Seen, UntilQuiet, delivers_each_frame_once, drain};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

const OPEN: RingOptions<'_> = RingOptions { ring_bytes: 8 << 20, fanout: None, filter: None };

/// Runs `test` in a fresh network namespace with the cable in it.
fn on_a_cable(test: fn()) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect(
            "live tests need root (CAP_SYS_ADMIN) for network namespaces: run them with sudo",
        );
        // Frames pass the cable in the order they were sent only when one CPU sends them all.
        let mut one = CpuSet::new();
        one.set(0).expect("there is a first CPU");
        sched_setaffinity(Pid::from_raw(0), &one).expect("this thread stays on one CPU");
        // Without IPv6 the kernel itself has nothing to say on the cable.
        for which in ["all", "default"] {
            let knob = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            if std::path::Path::new(&knob).exists() {
                std::fs::write(&knob, "1").expect("IPv6 can be switched off");
            }
        }
        ip("link add tap type veth peer name peer");
        ip("link set peer address 02:00:00:00:00:01");
        ip("address add 10.99.0.1/24 dev peer");
        ip("link set tap up");
        ip("link set peer up");
        // A neighbour that nobody is: frames go out at once, and to an address that is not tap's.
        ip("neighbour add 10.99.0.2 lladdr 02:00:00:00:00:99 nud permanent dev peer");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
}

/// What the kernel says of an interface.
fn link(interface: &str) -> serde_json::Value {
    let arguments = ["-s", "-d", "-j", "link", "show", interface];
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    let mut links: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    links[0].take()
}

/// Frames that an interface sent, by the kernel's count.
fn sent_by(interface: &str) -> u64 {
    link(interface)["stats64"]["tx"]["packets"].as_u64().expect("a count")
}

/// Sends numbered datagrams from `flows` ports; the number is the payload's first four bytes.
fn send(numbers: std::ops::Range<u32>, flows: u32, len_bytes: usize) {
    let sockets: Vec<UdpSocket> =
        (0..flows).map(|_| UdpSocket::bind("10.99.0.1:0").expect("a port")).collect();
    for number in numbers {
        let flow = usize::try_from(number % flows).expect("small");
        let mut payload = vec![0; len_bytes];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let port = 7_000 + u16::try_from(number % flows).expect("few flows");
        sockets[flow].send_to(&payload, ("10.99.0.2", port)).expect("is sent");
    }
}

/// The number in a frame of [`send`].
fn number_in(frame: &Seen) -> u32 {
    assert_eq!(frame.link, LinkType::Ethernet);
    assert_eq!(frame.bytes[..6], [2, 0, 0, 0, 0, 0x99], "the frame begins with its destination");
    u32::from_be_bytes(frame.bytes[42..46].try_into().expect("four bytes"))
}

fn each_once(numbers: impl IntoIterator<Item = u32>, expected: std::ops::Range<u32>) {
    let mut counts = BTreeMap::new();
    for number in numbers {
        *counts.entry(number).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "a frame came twice");
    assert!(counts.keys().copied().eq(expected), "a frame is missing");
}

#[test]
fn the_suite_holds_for_a_ring_and_nothing_is_sent() {
    on_a_cable(|| {
        let mut peer =
            pcap::Capture::from_device("peer").and_then(pcap::Capture::open).expect("peer");
        assert_eq!(link("tap")["promiscuity"], 0);
        let mut source = UntilQuiet(RingSource::open("tap", OPEN).expect("opens"));
        assert_eq!(link("tap")["promiscuity"], 1);
        // Every length, and whatever follows the addresses: IPv4 that is none, ARP, LLDP, noise.
        let mut expected = Vec::new();
        for len in 15..1_500_u16 {
            let mut frame = vec![len.to_le_bytes()[0].wrapping_mul(31); usize::from(len)];
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1]);
            let kinds = [[8, 0], [8, 6], [0x88, 0xcc], [0x86, 0xdd], [0x12, 0x34]];
            frame[12..14].copy_from_slice(&kinds[usize::from(len) % kinds.len()]);
            peer.sendpacket(&frame[..]).expect("is sent");
            expected.push((LinkType::Ethernet, frame));
        }
        let frames = delivers_each_frame_once(&mut source, &expected);
        let counts = source.kernel_counts();
        assert_eq!((counts.seen, counts.dropped), (1_485, 0));
        assert_eq!(source.kernel_counts(), counts, "asking again adds nothing");
        // The simulated ring gives the same for the same.
        let again = frames.iter().map(|frame| (frame.time, frame.link, frame.bytes.clone()));
        let simulated = &mut callspan::capture::SimSource::new(again.collect());
        assert!(delivers_each_frame_once(simulated, &expected) == frames);
        assert_eq!((sent_by("tap"), sent_by("peer")), (0, 1_485));
        drop(source);
        assert_eq!(link("tap")["promiscuity"], 0);
    });
}

#[test]
fn two_rings_of_a_fanout_group_share_all_frames_and_keep_flows_together() {
    on_a_cable(|| {
        let group = FanoutGroup { id: 77, count: 2 };
        let options = RingOptions { fanout: Some(group), ..OPEN };
        let rings = [0, 1].map(|_| RingSource::open("tap", options).expect("opens"));
        let threads = rings.map(|ring| {
            std::thread::spawn(move || {
                let mut source = UntilQuiet(ring);
                let (frames, errors) = drain(&mut source);
                assert!(errors.is_empty());
                (frames, source.kernel_counts())
            })
        });
        send(0..20_000, 32, 172);
        let [first, second] = threads.map(|thread| thread.join().expect("no panic"));
        let (seen, dropped) = (first.1.seen + second.1.seen, first.1.dropped + second.1.dropped);
        assert_eq!((seen, dropped), (20_000, 0));
        let flows = |frames: &[Seen]| {
            frames
                .iter()
                .map(|frame| number_in(frame) % 32)
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (one, two) = (flows(&first.0), flows(&second.0));
        assert!(one.is_disjoint(&two), "a flow came to both rings");
        assert!(!one.is_empty() && !two.is_empty(), "one ring took everything");
        each_once(first.0.iter().chain(&second.0).map(number_in), 0..20_000);
        assert_eq!(sent_by("tap"), 0);
    });
}

#[test]
fn frames_that_find_no_room_are_counted_by_the_kernel() {
    on_a_cable(|| {
        let small = RingOptions { ring_bytes: 1 << 20, ..OPEN };
        let mut source = UntilQuiet(RingSource::open("tap", small).expect("opens"));
        send(0..5_000, 1, 1_400);
        let (frames, _) = drain(&mut source);
        let counts = source.kernel_counts();
        let delivered = u64::try_from(frames.len()).expect("few");
        assert_eq!(counts.seen, 5_000, "those dropped are among those seen");
        assert!(counts.dropped > 1_000, "the ring holds 1 MiB, and 7 MB were sent");
        assert_eq!(counts.seen, counts.dropped + delivered);
        // What was handed over is whole: the numbers are those of the first frames.
        let first = u32::try_from(frames.len()).expect("few");
        each_once(frames.iter().map(number_in), 0..first);
        // The ring goes on after it was full.
        send(0..10, 1, 100);
        assert_eq!(drain(&mut source).0.len(), 10);
    });
}

#[test]
fn a_filter_holds_in_the_kernel_from_the_first_frame_on() {
    on_a_cable(|| {
        let options = RingOptions { filter: Some("udp dst port 7001"), ..OPEN };
        let mut source = UntilQuiet(RingSource::open("tap", options).expect("opens"));
        send(0..400, 4, 100);
        let (frames, _) = drain(&mut source);
        let numbers: Vec<u32> = frames.iter().map(number_in).collect();
        assert_eq!(numbers, (0..100).map(|n| 4 * n + 1).collect::<Vec<_>>());
        assert_eq!(source.kernel_counts().seen, 100);
        let wrong = RingOptions { filter: Some("udp prt 7001"), ..OPEN };
        let error = RingSource::open("tap", wrong).err().expect("is refused");
        assert!(matches!(error, CaptureError::BadFilter { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Usage);
    });
}

#[test]
fn frames_longer_than_usual_come_whole() {
    on_a_cable(|| {
        ip("link set tap mtu 65535");
        ip("link set peer mtu 65535");
        for filter in [None, Some("udp")] {
            let options = RingOptions { ring_bytes: 0, filter, ..OPEN };
            let mut source = UntilQuiet(RingSource::open("tap", options).expect("opens"));
            send(0..40, 1, 65_500);
            let (frames, _) = drain(&mut source);
            each_once(frames.iter().map(number_in), 0..u32::try_from(frames.len()).expect("few"));
            assert!(frames.len() >= 9, "four blocks of 256 KiB hold three each");
            assert!(frames.iter().all(|frame| frame.bytes.len() == 65_542));
            assert!(frames.iter().all(|frame| frame.wire_len_bytes == 65_542));
        }
    });
}

/// A frame with a UDP datagram to `port`, behind `tag`.
fn udp_frame(tag: &[u8], port: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1];
    frame.extend(tag);
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 99, 0, 1, 10, 99, 0, 2, 0x13, 0xc4]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 26, 0, 0]);
    frame.resize(frame.len() + 18, 0);
    frame
}

#[test]
fn a_tag_is_taken_out_of_the_frame_and_a_vlan_filter_still_sees_it() {
    on_a_cable(|| {
        let mut peer =
            pcap::Capture::from_device("peer").and_then(pcap::Capture::open).expect("peer");
        let (plain, tagged) = (udp_frame(&[], 9_000), udp_frame(&[0x81, 0, 0, 7], 9_000));
        for (filter, expected) in [
            (None, 12),
            (Some("vlan 7"), 5),
            (Some("vlan 8"), 0),
            (Some("vlan and udp dst port 9000"), 5),
            (Some("udp dst port 9000"), 12),
        ] {
            let options = RingOptions { filter, ..OPEN };
            let mut source = UntilQuiet(RingSource::open("tap", options).expect("opens"));
            for _ in 0..5 {
                peer.sendpacket(&tagged[..]).expect("is sent");
            }
            for _ in 0..7 {
                peer.sendpacket(&plain[..]).expect("is sent");
            }
            let (frames, _) = drain(&mut source);
            assert_eq!(frames.len(), expected, "{filter:?}");
            // Without the tag it is the plain frame, byte for byte.
            assert!(frames.iter().all(|frame| frame.bytes == plain), "{filter:?}");
            assert_eq!(sent_by("tap"), 0);
        }
    });
}

#[test]
fn an_interface_removed_under_us_gives_its_last_frames_and_then_an_error() {
    on_a_cable(|| {
        let mut source = RingSource::open("tap", OPEN).expect("opens");
        send(0..50, 1, 100);
        ip("link delete tap");
        let mut sink = Collect::default();
        let error = (0..20).find_map(|_| source.poll(&mut sink).err()).expect("an error comes");
        assert!(matches!(error, CaptureError::InterfaceGone { .. }), "{error}");
        each_once(sink.frames.iter().map(number_in), 0..50);
        let error = RingSource::open("tap", OPEN).err().expect("is not there");
        let CaptureError::NoSuchInterface { name, available } = error else { panic!("{error}") };
        assert_eq!((&name[..], &available[..]), ("tap", "lo"));
    });
}

#[test]
fn an_interface_that_is_down_is_told_when_opened_and_while_running() {
    on_a_cable(|| {
        let mut source = RingSource::open("tap", OPEN).expect("opens");
        assert!(matches!(source.poll(&mut Collect::default()), Ok(Polled::Idle { .. })));
        ip("link set tap down");
        let error = (0..20).find_map(|_| source.poll(&mut Collect::default()).err());
        assert!(matches!(error, Some(CaptureError::InterfaceGone { .. })), "{error:?}");
        let error = RingSource::open("tap", OPEN).err().expect("is down");
        assert!(error.to_string().contains("ip link set tap up"), "{error}");
    });
}

#[test]
fn a_tunnel_without_link_layer_gives_raw_ip() {
    on_a_cable(|| {
        ip("tuntap add tun mode tun");
        ip("link set tun up");
        // Nobody reads the tunnel's other end, so it has no carrier; the link type is what counts.
        let source = RingSource::open("tun", OPEN).expect("opens");
        assert_eq!(source.link(), LinkType::RawIp);
    });
}

#[test]
fn loopback_frames_come_once() {
    on_a_cable(|| {
        ip("link set lo up");
        let mut source = UntilQuiet(RingSource::open("lo", OPEN).expect("opens"));
        let listener = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        for n in 0..20_u8 {
            listener.send_to(&[n; 40], to).expect("is sent");
        }
        let (frames, _) = drain(&mut source);
        let payloads: Vec<u8> = frames.iter().map(|frame| frame.bytes[42]).collect();
        assert_eq!(payloads, (0..20).collect::<Vec<u8>>());
    });
}

#[test]
fn without_the_capability_the_message_says_what_to_do() {
    // The binary is copied to where any user may run it, and runs the helper below as nobody.
    let directory = tempfile::tempdir().expect("directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("readable");
    let copy = directory.path().join("helper");
    std::fs::copy(std::env::current_exe().expect("a path"), &copy).expect("copies");
    let output = Command::new(copy)
        .args(["--exact", "helper_opens_a_ring", "--ignored", "--nocapture"])
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .output()
        .expect("live tests need root to become another user: run them with sudo");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("said: no permission to capture on lo; run as root"), "{said}");
    assert!(said.contains("setcap cap_net_raw,cap_ipc_lock+ep"), "{said}");
}

#[test]
#[ignore = "run by without_the_capability_the_message_says_what_to_do"]
fn helper_opens_a_ring() {
    match RingSource::open("lo", OPEN) {
        Ok(_) => println!("said: nothing"),
        Err(error) => println!("said: {error}"),
    }
}
