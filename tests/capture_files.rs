//! Capture files as a user names them: packed, merged, cut off, mixed, hostile.

mod capture_common;

use std::io::Write;
use std::path::{Path, PathBuf};

use callspan::base::{FrameSource, LinkType, PacketTime, Polled};
use callspan::capture::{CaptureError, ErrorClass, FileSource, SimSource, fuzz};
use capture_common::{Collect, delivers_each_frame_once, drain, gzip, pcap, zst};
use proptest::prelude::*;

fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, bytes).expect("temporary file");
    path
}

fn open(paths: &[PathBuf]) -> FileSource {
    FileSource::open(paths, None).expect("opens")
}

fn error_of(paths: &[PathBuf], filter: Option<&str>) -> CaptureError {
    FileSource::open(paths, filter).err().expect("is refused")
}

/// An Ethernet frame with UDP to `port`.
fn udp_frame(port: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0xc4]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}

/// 3 000 frames: more than one poll hands over, more than the read-ahead holds.
fn many() -> Vec<(PacketTime, LinkType, Vec<u8>)> {
    (0..3_000_u16)
        .map(|n| {
            let time = PacketTime::from_ns(1_000_000_000 + i64::from(n) * 70_000_001);
            let mut bytes = vec![n.to_le_bytes()[0]; 300 + usize::from(n % 900)];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            (time, LinkType::Ethernet, bytes)
        })
        .collect()
}

fn frames_only(frames: &[(PacketTime, LinkType, Vec<u8>)]) -> Vec<(LinkType, Vec<u8>)> {
    frames.iter().map(|(_, link, bytes)| (*link, bytes.clone())).collect()
}

fn as_pcap(frames: &[(PacketTime, LinkType, Vec<u8>)]) -> Vec<u8> {
    let plain: Vec<_> = frames.iter().map(|(time, _, bytes)| (time.ns(), &bytes[..])).collect();
    pcap(1, &plain)
}

#[test]
fn the_suite_holds_for_the_simulated_ring_and_every_packing_of_a_file() {
    let directory = tempfile::tempdir().expect("directory");
    let frames = many();
    let check = |source: &mut dyn FrameSource<Error = CaptureError>| {
        let seen = delivers_each_frame_once(source, &frames_only(&frames));
        assert!(seen.iter().zip(&frames).all(|(seen, (time, ..))| seen.time == *time));
    };
    check(&mut SimSource::new(frames.clone()));
    let plain = as_pcap(&frames);
    let (first, second) = plain.split_at(plain.len() / 2);
    let two_members = [gzip(first), gzip(second)].concat();
    let packings = [
        ("plain", plain.clone()),
        ("gzip", gzip(&plain)),
        ("two", two_members),
        ("zstd", zst(&plain)),
    ];
    for (name, bytes) in packings {
        // The name says nothing: content does.
        let path = write(directory.path(), &format!("{name}.txt"), &bytes);
        let mut source = open(&[path]);
        check(&mut source);
        let size = u64::try_from(bytes.len()).expect("size");
        assert_eq!(source.progress(), (size, size), "{name}");
        assert_eq!((source.time_steps(), source.filtered()), (0, 0));
    }
}

/// A pipe in `directory`, written in small pieces from a thread of its own.
fn pipe_of(directory: &Path, name: &str, bytes: Vec<u8>) -> PathBuf {
    let path = directory.join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    let to = path.clone();
    std::thread::spawn(move || {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(to).expect("pipe opens");
        for piece in bytes.chunks(997) {
            pipe.write_all(piece).expect("reader is there");
        }
    });
    path
}

#[test]
fn named_pipes_are_read_as_they_are_written() {
    let directory = tempfile::tempdir().expect("directory");
    let frames = many();
    let plain = as_pcap(&frames);
    for (name, bytes) in [("plain", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zst(&plain))] {
        let pipe = pipe_of(directory.path(), name, bytes);
        delivers_each_frame_once(&mut open(&[pipe]), &frames_only(&frames));
    }
}

#[test]
fn a_silent_pipe_is_idle_and_nothing_overtakes_it() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    // Open for both, so that neither end waits for the other.
    let mut pipe = std::fs::File::options().read(true).write(true).open(&path).expect("pipe");
    let piped = pcapng(&[(10, b"p10"), (30, b"p30")]);
    let file = write(directory.path(), "file", &pcap(1, &[(20, b"f20"), (40, b"f40")]));
    let mut sink = Collect::default();
    let mut written = 0;
    let mut source: Option<FileSource> = None;
    // The pipe stops at every byte; what comes out never depends on where.
    let mut idle = 0;
    for end in [40, 68, 90, 104, 109, 130, piped.len()] {
        pipe.write_all(&piped[written..end]).expect("room in the pipe");
        written = end;
        let source = source.get_or_insert_with(|| open(&[path.clone(), file.clone()]));
        for _ in 0..3 {
            match source.poll(&mut sink).expect("no error") {
                Polled::Idle { .. } => idle += 1,
                Polled::Frames => {}
                Polled::End => panic!("the pipe is still open"),
            }
        }
    }
    assert!(idle >= 7, "silence is told");
    let order = |sink: &Collect| -> Vec<Vec<u8>> {
        sink.frames.iter().map(|frame| frame.bytes.clone()).collect()
    };
    assert_eq!(order(&sink), [&b"p10"[..], b"f20", b"p30"], "f40 waits for the pipe");
    drop(pipe);
    let mut source = source.expect("was opened");
    while source.poll(&mut sink).expect("no error") != Polled::End {}
    assert_eq!(order(&sink), [&b"p10"[..], b"f20", b"p30", b"f40"]);
}

/// A little-endian pcapng file of one Ethernet interface, in nanoseconds.
fn pcapng(frames: &[(u8, &[u8; 3])]) -> Vec<u8> {
    let mut out = vec![0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    out.extend([0xff; 8]);
    out.extend([28, 0, 0, 0]);
    out.extend([1, 0, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    out.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0]);
    for (ns, bytes) in frames {
        out.extend([6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend([*ns, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0]);
        out.extend(*bytes);
        out.extend([0, 36, 0, 0, 0]);
    }
    out
}

#[test]
fn standard_input_is_a_file_named_dash() {
    let directory = tempfile::tempdir().expect("directory");
    let path = write(directory.path(), "capture", &gzip(&as_pcap(&many())));
    let run = |stdin: std::fs::File| {
        let output = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "helper_reads_standard_input", "--ignored", "--nocapture"])
            .env("CALLSPAN_TEST_OTHER_FILE", &path)
            .stdin(stdin)
            .output()
            .expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = run(std::fs::File::open(&path).expect("opens"));
    assert!(said.contains("read 3000 frames"), "{said}");
    assert!(
        said.contains("twice: - was named twice") || said.contains("was named twice (also as -)")
    );
}

#[test]
#[ignore = "run by standard_input_is_a_file_named_dash"]
fn helper_reads_standard_input() {
    let dash = PathBuf::from("-");
    if let Some(other) = std::env::var_os("CALLSPAN_TEST_OTHER_FILE") {
        println!("twice: {}", error_of(&[dash.clone(), other.into()], None));
    }
    println!("read {} frames", drain(&mut open(&[dash])).0.len());
}

#[test]
fn files_are_merged_by_time_and_ties_keep_the_order_of_the_command_line() {
    let directory = tempfile::tempdir().expect("directory");
    let a = write(directory.path(), "a", &pcap(1, &[(10, b"a10"), (20, b"a20"), (50, b"a50")]));
    let b = write(directory.path(), "b", &zst(&pcap(101, &[(5, b"b05"), (20, b"b20")])));
    let c = write(directory.path(), "c", &pcap(1, &[(20, b"c20")]));
    let (frames, _) = drain(&mut open(&[b, c, a]));
    let order: Vec<&[u8]> = frames.iter().map(|frame| &frame.bytes[..]).collect();
    assert_eq!(order, [&b"b05"[..], b"a10", b"b20", b"c20", b"a20", b"a50"]);
    assert_eq!(frames[0].link, LinkType::RawIp);
    assert_eq!(frames[1].link, LinkType::Ethernet);
}

#[test]
fn hundreds_of_rotated_files_are_open_only_when_their_time_comes() {
    let directory = tempfile::tempdir().expect("directory");
    let frames = many();
    let mut paths = Vec::new();
    for (place, piece) in frames.chunks(10).enumerate() {
        let bytes = as_pcap(piece);
        let bytes = if place % 2 == 0 { zst(&bytes) } else { bytes };
        // Named in an order that has nothing to do with time.
        paths.push(write(directory.path(), &format!("{place}"), &bytes));
    }
    paths.sort();
    let open_files = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let before = open_files();
    let mut source = open(&paths);
    let (read, total) = source.progress();
    assert_eq!(read, 0);
    // Other tests open files meanwhile; 300 of ours they are not.
    assert!(open_files() < before + 100, "they are parked");
    let seen = delivers_each_frame_once(&mut source, &frames_only(&frames));
    assert!(seen.iter().zip(&frames).all(|(seen, (time, ..))| seen.time == *time));
    assert_eq!((source.progress(), source.time_steps()), ((total, total), 0));
    // A file that disappears before its turn is an error after everything else.
    let mut source = open(&paths);
    std::fs::remove_file(directory.path().join("7")).expect("removes");
    let (seen, errors) = drain(&mut source);
    assert_eq!((seen.len(), errors.len()), (2_990, 1));
    assert!(matches!(errors[0], CaptureError::NoSuchFile { .. }), "{}", errors[0]);
}

#[test]
fn a_step_back_in_time_is_clamped_and_counted() {
    let data = pcap(1, &[(30, b"first"), (10, b"late"), (20, b"late too"), (40, b"last")]);
    let mut source = FileSource::from_bytes(data, None).expect("opens");
    let (frames, _) = drain(&mut source);
    let times: Vec<i64> = frames.iter().map(|frame| frame.time.ns()).collect();
    assert_eq!((times, source.time_steps()), (vec![30, 30, 30, 40], 2));
}

#[test]
fn a_cut_file_gives_its_whole_frames_and_those_of_the_others_before_the_error() {
    let directory = tempfile::tempdir().expect("directory");
    let whole = pcap(1, &[(10, b"a10"), (30, b"a30")]);
    let cut = write(directory.path(), "cut", &whole[..whole.len() - 1]);
    let other = write(directory.path(), "other", &pcap(1, &[(20, b"b20"), (99, b"b99")]));
    let (frames, errors) = drain(&mut open(&[cut.clone(), other]));
    let order: Vec<&[u8]> = frames.iter().map(|frame| &frame.bytes[..]).collect();
    assert_eq!(order, [&b"a10"[..], b"b20", b"b99"]);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].class(), ErrorClass::Incomplete);
    let CaptureError::Truncated { path, offset } = &errors[0] else { panic!("{}", errors[0]) };
    assert_eq!((path, *offset), (&cut, 24 + 19));
}

#[test]
fn a_packed_file_cut_anywhere_gives_whole_frames_and_one_error() {
    let frames = many();
    let plain = as_pcap(&frames[..40]);
    for packed in [gzip(&plain), zst(&plain)] {
        for cut in 0..packed.len() {
            match FileSource::from_bytes(packed[..cut].to_vec(), None) {
                Ok(mut source) => {
                    let (seen, errors) = drain(&mut source);
                    assert!(seen.len() <= 40);
                    assert!(seen.iter().zip(&frames).all(|(got, want)| got.bytes == want.2));
                    assert_eq!(errors.len(), 1, "cut at {cut}");
                }
                Err(error) => assert!(cut < 4, "cut at {cut}: {error}"),
            }
        }
    }
}

#[test]
fn what_is_no_capture_is_told_with_a_hint() {
    let directory = tempfile::tempdir().expect("directory");
    let hint = |bytes: &[u8]| {
        let error = error_of(&[write(directory.path(), "x", bytes)], None);
        assert!(matches!(error, CaptureError::NotACapture { .. }), "{error}");
        error.to_string()
    };
    assert!(hint(b"").ends_with("is not a capture file: it is empty; was it copied whole?"));
    assert!(hint(b"abc").ends_with("it is too short; was it copied whole?"));
    assert!(hint(b"INVITE sip:a@b SIP/2.0").ends_with("neither a pcap nor a pcapng header"));
    assert!(hint(b"\xfd7zXZ\0\0").contains("unxz"));
    assert!(hint(&gzip(&gzip(b"anything"))).contains("packed twice"));
    let error = error_of(&[directory.path().to_owned()], None);
    assert!(error.to_string().contains("it is a directory"));
    let error = error_of(&[directory.path().join("none.pcap")], None);
    assert!(matches!(error, CaptureError::NoSuchFile { .. }), "{error}");
}

#[test]
fn one_file_by_two_names_is_wrong_usage() {
    let directory = tempfile::tempdir().expect("directory");
    let first = write(directory.path(), "a", &pcap(1, &[]));
    let other = write(directory.path(), "b", &pcap(1, &[]));
    let again = directory.path().join("c");
    std::os::unix::fs::symlink(&first, &again).expect("symlink");
    let error = error_of(&[first.clone(), other, again.clone()], None);
    assert_eq!(error.class(), ErrorClass::Usage);
    let CaptureError::SameFileTwice { path, first: named } = error else { panic!("{error}") };
    assert_eq!((path, named), (again, first));
}

#[test]
fn what_the_filter_refuses_is_counted_and_not_handed_over() {
    let directory = tempfile::tempdir().expect("directory");
    let (wanted, other) = (udp_frame(5_060), udp_frame(53));
    let ethernet = pcap(1, &[(1, &wanted), (2, &other), (3, &wanted)]);
    let raw = pcap(101, &[(4, &wanted[14..]), (5, &other[14..])]);
    let paths = [write(directory.path(), "e", &ethernet), write(directory.path(), "r", &raw)];
    let mut source = FileSource::open(&paths, Some("udp dst port 5060")).expect("opens");
    let (frames, errors) = drain(&mut source);
    assert!(errors.is_empty());
    assert_eq!((frames.len(), source.filtered()), (3, 2));
    let error = error_of(&paths, Some("udp prt 5060"));
    assert_eq!(error.class(), ErrorClass::Usage);
    // Raw IP has no Ethernet addresses: the expression matches nothing there, and that is counted.
    let mut source = FileSource::open(&paths, Some("ether host 02:02:02:02:02:02")).expect("opens");
    assert_eq!((drain(&mut source).0.len(), source.filtered()), (3, 2));
}

#[test]
fn sources_can_be_moved_to_a_front_thread() {
    fn is_send<S: FrameSource + Send>() {}
    is_send::<FileSource>();
    is_send::<SimSource>();
    is_send::<callspan::capture::RingSource>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_merge_is_a_stable_sort_by_time(
        // More files than are held open at once, and fewer; times that collide often.
        gaps in proptest::collection::vec(proptest::collection::vec(0..4_i64, 0..12), 1..24),
        filler in any::<u8>(),
    ) {
        let directory = tempfile::tempdir().expect("directory");
        let mut paths = Vec::new();
        let mut model = Vec::new();
        for (file, gaps) in gaps.iter().enumerate() {
            let mut ns = 0;
            let mut frames = Vec::new();
            for (place, gap) in gaps.iter().enumerate() {
                ns += gap;
                let bytes = [file, place].map(|number| u8::try_from(number).expect("few"));
                frames.push((ns, [bytes[0], bytes[1], filler]));
            }
            model.extend(frames.iter().copied());
            let borrowed: Vec<_> = frames.iter().map(|(ns, bytes)| (*ns, &bytes[..])).collect();
            let bytes = pcap(1, &borrowed);
            let bytes = if file % 3 == 0 { gzip(&bytes) } else { bytes };
            paths.push(write(directory.path(), &file.to_string(), &bytes));
        }
        model.sort_by_key(|(ns, _)| *ns);
        let mut source = open(&paths);
        let (frames, errors) = drain(&mut source);
        prop_assert!(errors.is_empty());
        let merged: Vec<_> = frames.iter().map(|frame| (frame.time.ns(), &frame.bytes[..])).collect();
        let model: Vec<_> = model.iter().map(|(ns, bytes)| (*ns, &bytes[..])).collect();
        prop_assert_eq!(merged, model);
        prop_assert_eq!(source.time_steps(), 0);
    }
}

proptest! {
    #[test]
    fn random_bytes_behind_any_magic_end_without_panic(
        magic in 0..6_usize,
        mut tail in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let heads: [&[u8]; 6] = [
            b"",
            &[0xd4, 0xc3, 0xb2, 0xa1],
            &[0xa1, 0xb2, 0x3c, 0x4d],
            &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a],
            &[0x1f, 0x8b, 8, 0],
            &[0x28, 0xb5, 0x2f, 0xfd],
        ];
        let mut data = heads[magic].to_vec();
        data.append(&mut tail);
        fuzz::files(&data);
    }

    #[test]
    fn a_flipped_byte_never_panics_and_never_makes_frames_of_nothing(
        at in 0..200_usize, value: u8, packing in 0..3_u8,
    ) {
        let mut data = pcap(1, &[(1, b"some frame"), (2, b"another frame"), (3, b"the last")]);
        let place = at % data.len();
        data[place] = value;
        let data = match packing { 0 => data, 1 => gzip(&data), _ => zst(&data) };
        fuzz::files(&data);
        if let Ok(mut source) = FileSource::from_bytes(data, None) {
            prop_assert!(drain(&mut source).0.len() <= 6);
        }
    }

    #[test]
    fn a_random_block_of_a_ring_is_walked_inside_its_bounds(
        frames in 0..20_u32, first in 0..80_u32,
        words in proptest::collection::vec(prop_oneof![0..96_u32, any::<u32>()], 0..100),
    ) {
        let mut data = vec![0; 12];
        data.extend(frames.to_ne_bytes());
        data.extend(first.to_ne_bytes());
        data.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        fuzz::block(&data);
    }

    #[test]
    fn random_blocks_of_a_section_end_without_panic(
        blocks in proptest::collection::vec(
            (0..8_u32, 0..80_u32, proptest::collection::vec(any::<u8>(), 0..64)), 0..20),
    ) {
        let mut data = [0x0a_u8, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a].to_vec();
        data.extend([1, 0, 0, 0]);
        data.extend([0xff; 8]);
        data.extend([28, 0, 0, 0]);
        for (kind, len, body) in blocks {
            data.extend(kind.to_le_bytes());
            data.extend(len.to_le_bytes());
            data.extend(body);
        }
        fuzz::files(&data);
    }
}
