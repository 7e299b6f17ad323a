//! Whole calls: SIP with SDP, and both directions of A-law.
//!
//! Purpose: a capture of many calls at once, made by intent.
//! Invariants: frames are in order of time; every call is answered and ends with BYE.
//! Non-goals: loss, NAT, forks (see `tests/lab`).
//! Sources: RFC 3261 §24.2 (the messages of a session), RFC 3264.

use super::{Part, alaw_packets, low_16, low_32, media_end, rtp, udp_frame};
use callspan::base::{Channel, Endpoint, PacketTime};

/// Who speaks when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Both, all the time: the most that an encoder can be asked.
    Both,
    /// One at a time, two seconds each.
    InTurns,
}

/// The name of a call.
pub fn call_id(number: usize) -> String {
    format!("call-{number:06}@bench.example")
}

fn sdp(end: Endpoint) -> String {
    let address = end.address();
    format!(
        "v=0\r\no=- 3913 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio {} RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n",
        end.port
    )
}

/// A message of the `number`-th call. `first_line`: with the method or the status; `sequence`: the
/// CSeq header's value; `media`: who sends an SDP.
pub fn message(number: usize, first_line: &str, sequence: &str, media: Option<Channel>) -> Vec<u8> {
    let body = media.map(|party| sdp(media_end(number, party))).unwrap_or_default();
    let to_tag = if sequence == "1 INVITE" && !first_line.starts_with("SIP/2.0") {
        ""
    } else {
        ";tag=callee9"
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{first_line}\r\n\
         Via: SIP/2.0/UDP 10.1.0.1:5060;branch=z9hG4bK{number:08x}{};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice Example\" <sip:1{number:06}@example.com>;tag=caller{number}\r\n\
         To: \"Bob\" <sip:2{number:06}@example.com>{to_tag}\r\n\
         Call-ID: {}\r\nCSeq: {sequence}\r\n\
         Contact: <sip:1{number:06}@10.1.0.1:5060;transport=udp>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REFER, NOTIFY\r\n\
         Supported: replaces, timer, 100rel\r\nUser-Agent: bench/1.0\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        sequence.replace(' ', ""),
        call_id(number),
        body.len(),
    )
    .into_bytes()
}

/// The INVITE of a call, with its SDP.
pub fn invite(number: usize) -> Vec<u8> {
    let line = format!("INVITE sip:2{number:06}@example.com SIP/2.0");
    message(number, &line, "1 INVITE", Some(Channel::Caller))
}

/// Frames of `calls` calls at once, each with `seconds` of media in both directions.
pub fn capture(calls: usize, seconds: u32, talk: Talk) -> Vec<(PacketTime, Vec<u8>)> {
    let bank = alaw_packets(8);
    let start = PacketTime::from_ms(1_700_000_000_000);
    let mut frames = Vec::new();
    for number in 0..calls {
        signalling(number, start, seconds, &mut frames);
        let offset_ns = i64::from(low_32(number * 20_000_000 / calls));
        for (index, party) in Channel::BOTH.into_iter().enumerate() {
            let (source, destination) =
                (media_end(number, party), media_end(number, party.other()));
            let ssrc = low_32(number * 2 + index + 1);
            for packet in 0..usize::try_from(seconds * 50).expect("small") {
                let speaks = talk == Talk::Both || packet / 100 % 2 == index;
                // 0xd5 is A-law's zero.
                let payload =
                    if speaks { bank[(packet + number * 7) % bank.len()] } else { [0xd5; 160] };
                let media = rtp(low_16(packet), ssrc, &payload);
                let bytes = udp_frame(source, destination, low_16(packet), Part::Whole, &media);
                let at_ms = 120 + 20 * i64::from(low_32(packet));
                frames.push((start.plus_ms(at_ms).plus_ns(offset_ns), bytes));
            }
        }
    }
    frames.sort_by_key(|(time, _)| *time);
    frames
}

fn signalling(
    number: usize,
    start: PacketTime,
    seconds: u32,
    frames: &mut Vec<(PacketTime, Vec<u8>)>,
) {
    let caller = media_end(number, Channel::Caller).with_port(5_060);
    let callee = media_end(number, Channel::Callee).with_port(5_060);
    let end_ms = 160 + 1_000 * i64::from(seconds);
    let ack = format!("ACK sip:2{number:06}@example.com SIP/2.0");
    let bye = format!("BYE sip:2{number:06}@example.com SIP/2.0");
    let steps = [
        (0, caller, callee, invite(number)),
        (40, callee, caller, message(number, "SIP/2.0 180 Ringing", "1 INVITE", None)),
        (80, callee, caller, message(number, "SIP/2.0 200 OK", "1 INVITE", Some(Channel::Callee))),
        (100, caller, callee, message(number, &ack, "1 ACK", None)),
        (end_ms, caller, callee, message(number, &bye, "2 BYE", None)),
        (end_ms + 20, callee, caller, message(number, "SIP/2.0 200 OK", "2 BYE", None)),
    ];
    for (step, (at_ms, source, destination, bytes)) in steps.into_iter().enumerate() {
        let bytes = udp_frame(source, destination, low_16(step), Part::Whole, &bytes);
        frames.push((start.plus_ms(at_ms), bytes));
    }
}
