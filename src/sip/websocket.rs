//! SIP over WebSocket: frames in one direction of a connection.
//!
//! Purpose: each message of the WebSocket is one SIP message; hand it out, whatever its fragments, masks and the
//! control frames between them.
//! Invariants: a message holds at most `SIP_MESSAGE_BYTES_MAX`, also once unpacked; longer ones are passed over; bytes
//! are looked at once, but for the few of a frame's header.
//! Non-goals: the handshake's keys, extensions other than permessage-deflate, subprotocols other than `sip`.
//! Sources: RFC 6455 §5 (frames), RFC 7118 (the SIP subprotocol), RFC 7692 §7 (permessage-deflate).
//!
//! ```text
//! FIN:1 RSV:3 opcode:4   mask:1 length:7   [126: u16, 127: u64]   [mask: 4]   payload
//! ```

use flate2::{Decompress, FlushDecompress, Status};

use super::framer::Gap;
use super::likeness::{Likeness, looks_like_sip};
use crate::base::Reader;
use crate::base::limits::{SIP_MESSAGE_BYTES_MAX, WEBSOCKET_HEAD_BYTES_MAX};

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
/// Of the longest frame header.
const HEADER_BYTES_MAX: usize = 14;
/// What a compressed message leaves out at its end (RFC 7692 §7.2.1).
const DEFLATE_END: [u8; 4] = [0, 0, 0xff, 0xff];

/// One direction.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    /// A header that is not whole: of HTTP, or of a frame.
    header: Vec<u8>,
    message: Message,
    unpacker: Option<Box<Decompress>>,
}

#[derive(Debug)]
enum State {
    /// In the HTTP request or answer.
    Upgrade,
    /// Between frames, or in a frame's header.
    Header,
    Payload {
        left: u64,
        mask: [u8; 4],
        at: usize,
        purpose: Purpose,
    },
    /// Behind a gap: the next bytes that begin like a frame with SIP in it.
    Lost,
    /// Not a WebSocket of ours.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Part of a message, perhaps its last.
    Part { is_last: End },
    /// A control frame, or part of a message that is passed over.
    PassOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Last,
    More,
}

/// The message that is being gathered.
#[derive(Debug, Default)]
struct Message {
    bytes: Vec<u8>,
    packing: Packing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Packing {
    #[default]
    Plain,
    Deflated,
    /// Too long, or its beginning was not seen.
    PassedOver,
}

/// A frame's header, as far as it matters.
struct Header {
    flags: u8,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
    bytes: usize,
}

/// Judges the first bytes of a direction: an HTTP request or answer that may change to WebSocket, or a frame that carries
/// SIP. `Maybe` asks for more bytes.
#[must_use]
pub fn looks_like_websocket(bytes: &[u8]) -> Likeness {
    let starts = |whole: &[u8]| {
        let head = bytes.get(..whole.len()).unwrap_or(bytes);
        match whole.get(..head.len()) {
            Some(begin) if begin != head => Likeness::No,
            _ if head.len() == whole.len() => Likeness::Yes,
            _ => Likeness::Maybe,
        }
    };
    match bytes.first() {
        None => Likeness::Maybe,
        Some(b'G') => starts(b"GET "),
        Some(b'H') => starts(b"HTTP/1.1 101"),
        Some(&first) if first & RESERVED == 0 && matches!(first & 0x8f, 0x81 | 0x82 | 1 | 2) => {
            frame_with_sip(bytes)
        }
        Some(_) => Likeness::No,
    }
}

/// Compressed messages cannot be judged: a direction is joined at one that is not.
fn frame_with_sip(bytes: &[u8]) -> Likeness {
    let Some(header) = Header::parse(bytes) else {
        return if bytes.len() < HEADER_BYTES_MAX { Likeness::Maybe } else { Likeness::No };
    };
    if header.flags & COMPRESSED != 0 || header.length < 16 {
        return Likeness::No;
    }
    // The start line's first word is enough to tell, and `Maybe` of it not.
    let mut head: Vec<u8> = bytes.get(header.bytes..).unwrap_or_default().to_vec();
    unmask(&mut head, header.mask, 0);
    looks_like_sip(&head)
}

impl Header {
    /// `None` when it is not whole.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let [first, second] = reader.array::<2>()?;
        let length = match second & 0x7f {
            126 => u64::from(reader.u16_be()?),
            127 => reader.u64_be()?,
            short => u64::from(short),
        };
        let mask = if second & 0x80 != 0 { reader.array::<4>()? } else { [0; 4] };
        let length_bytes = bytes.len().saturating_sub(reader.remaining());
        Some(Self { flags: first & 0xf0, opcode: first & 0x0f, length, mask, bytes: length_bytes })
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    if mask != [0; 4] {
        let key = mask.iter().cycle().skip(at % 4);
        bytes.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
}

impl WebSocket {
    /// Of a direction that begins with `first`.
    #[must_use]
    pub fn new(first: &[u8]) -> Self {
        let is_http = matches!(first.first(), Some(b'G' | b'H'));
        let state = if is_http { State::Upgrade } else { State::Header };
        Self { state, header: Vec::new(), message: Message::default(), unpacker: None }
    }

    /// True when it turned out to be nothing of ours: follow it no longer.
    #[must_use]
    pub const fn is_other(&self) -> bool {
        matches!(self.state, State::Other)
    }

    /// True when bytes are missing, or were no frames.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// True when the change from HTTP is done.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.state, State::Other | State::Upgrade)
    }

    /// Takes the next bytes; `on_message` gets each message that looks like SIP.
    pub fn feed(&mut self, mut bytes: &[u8], gap: Gap, mut on_message: impl FnMut(&[u8])) {
        if gap == Gap::Gap {
            if matches!(self.state, State::Other) {
                return;
            }
            self.header.clear();
            self.message = Message { packing: Packing::PassedOver, ..Message::default() };
            self.unpacker = None;
            self.state = State::Lost;
        }
        if matches!(self.state, State::Lost) {
            if looks_like_websocket(bytes) != Likeness::Yes {
                return;
            }
            self.state = State::Header;
        }
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Other | State::Lost => return,
                State::Upgrade => self.upgrade(bytes),
                State::Header => self.frame_header(bytes, &mut on_message),
                State::Payload { .. } => self.payload(bytes, &mut on_message),
            };
        }
    }

    /// Gathers an HTTP head; returns what stands behind it.
    fn upgrade<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let before = self.header.len();
        let room = WEBSOCKET_HEAD_BYTES_MAX.saturating_sub(before);
        self.header.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let from = before.saturating_sub(3);
        let end = self.header.get(from..).and_then(|tail| memchr::memmem::find(tail, b"\r\n\r\n"));
        let Some(end) = end.map(|at| from.saturating_add(at).saturating_add(4)) else {
            if self.header.len() >= WEBSOCKET_HEAD_BYTES_MAX {
                self.state = State::Other;
            }
            return &[];
        };
        self.header.truncate(end);
        self.state = if is_sip_upgrade(&self.header) { State::Header } else { State::Other };
        self.header.clear();
        bytes.get(end.saturating_sub(before)..).unwrap_or_default()
    }

    fn frame_header<'a>(
        &mut self,
        bytes: &'a [u8],
        on_message: &mut impl FnMut(&[u8]),
    ) -> &'a [u8] {
        let before = self.header.len();
        let room = HEADER_BYTES_MAX.saturating_sub(before);
        self.header.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let Some(header) = Header::parse(&self.header) else { return &[] };
        self.header.clear();
        let is_control = header.opcode >= 8;
        let is_known = matches!(header.opcode, CONTINUATION | TEXT | BINARY | 8..=10);
        if !is_known || header.flags & RESERVED != 0 || is_control && header.length > 125 {
            self.state = State::Lost;
            return &[];
        }
        let is_last = if header.flags & FIN != 0 { End::Last } else { End::More };
        if matches!(header.opcode, TEXT | BINARY) {
            let packed = header.flags & COMPRESSED != 0;
            self.message.bytes.clear();
            self.message.packing = if packed { Packing::Deflated } else { Packing::Plain };
        }
        let long = self
            .message
            .bytes
            .len()
            .saturating_add(usize::try_from(header.length).unwrap_or(usize::MAX))
            > SIP_MESSAGE_BYTES_MAX;
        if !is_control && long {
            self.message = Message { packing: Packing::PassedOver, ..Message::default() };
            self.unpacker = None; // What it would have remembered is missing.
        }
        let purpose = if is_control || self.message.packing == Packing::PassedOver {
            Purpose::PassOver
        } else {
            Purpose::Part { is_last }
        };
        self.state = State::Payload { left: header.length, mask: header.mask, at: 0, purpose };
        if header.length == 0 {
            self.end_frame(purpose, on_message);
        }
        bytes.get(header.bytes.saturating_sub(before)..).unwrap_or_default()
    }

    fn payload<'a>(&mut self, bytes: &'a [u8], on_message: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let State::Payload { left, mask, at, purpose } = &mut self.state else { return bytes };
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        let (here, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
        let purpose = *purpose;
        if let Purpose::Part { .. } = purpose {
            let start = self.message.bytes.len();
            self.message.bytes.extend_from_slice(here);
            unmask(self.message.bytes.get_mut(start..).unwrap_or_default(), *mask, *at);
        }
        *at = at.wrapping_add(count);
        *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        if *left == 0 {
            self.end_frame(purpose, on_message);
        }
        rest
    }

    fn end_frame(&mut self, purpose: Purpose, on_message: &mut impl FnMut(&[u8])) {
        self.state = State::Header;
        if purpose != (Purpose::Part { is_last: End::Last }) {
            return;
        }
        let message = std::mem::take(&mut self.message.bytes);
        if self.message.packing == Packing::Plain {
            hand_out(&message, on_message);
        } else if let Some(plain) = self.unpack(&message) {
            hand_out(&plain, on_message);
        }
        // Until the next message begins nothing belongs to one.
        self.message = Message { packing: Packing::PassedOver, ..Message::default() };
    }

    /// With the memory of earlier messages, unless a gap took it: then only a sender without one is understood.
    fn unpack(&mut self, packed: &[u8]) -> Option<Vec<u8>> {
        let unpacker = self.unpacker.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let mut plain = Vec::new();
        for mut part in [packed, &DEFLATE_END] {
            loop {
                if plain.len() == plain.capacity() {
                    if plain.len() >= SIP_MESSAGE_BYTES_MAX {
                        self.unpacker = None;
                        return None;
                    }
                    plain.reserve_exact(plain.len().clamp(4_096, SIP_MESSAGE_BYTES_MAX));
                }
                let before = unpacker.total_in();
                let status = unpacker.decompress_vec(part, &mut plain, FlushDecompress::Sync);
                let read = unpacker.total_in().saturating_sub(before);
                part = part.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
                let is_full = plain.len() == plain.capacity();
                match status {
                    Ok(Status::Ok | Status::BufError) if is_full => {}
                    Ok(Status::Ok | Status::BufError) if part.is_empty() => break,
                    Ok(Status::Ok) if read > 0 => {}
                    _ => {
                        self.unpacker = None;
                        return None;
                    }
                }
            }
        }
        Some(plain)
    }
}

fn hand_out(message: &[u8], on_message: &mut impl FnMut(&[u8])) {
    if looks_like_sip(message) == Likeness::Yes {
        on_message(message);
    }
}

/// An HTTP head that changes to WebSocket with the subprotocol `sip`.
fn is_sip_upgrade(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.next();
    let (mut upgrades, mut is_sip) = (false, false);
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.get(1..).unwrap_or_default();
        let has = |word: &[u8]| {
            let words = value.split(|byte| matches!(byte, b',' | b' ' | b'\t'));
            words.into_iter().any(|found| found.eq_ignore_ascii_case(word))
        };
        upgrades |= name.eq_ignore_ascii_case(b"Upgrade") && has(b"websocket");
        is_sip |= name.eq_ignore_ascii_case(b"Sec-WebSocket-Protocol") && has(b"sip");
    }
    upgrades && is_sip
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n";
    const UPGRADE: &[u8] =
        b"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\nSec-WebSocket-Protocol: xmpp, SIP\r\n\r\n";

    fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let length = u8::try_from(payload.len());
        let mut out = vec![first];
        match length {
            Ok(short) if short < 126 => out.push(short | bit),
            _ => {
                out.push(0x7e | bit);
                out.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
            }
        }
        out.extend(mask.iter().flatten());
        let start = out.len();
        out.extend(payload);
        unmask(&mut out[start..], mask.unwrap_or_default(), 0);
        out
    }

    fn heard(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut socket, mut heard) = (WebSocket::new(stream), Vec::new());
        for piece in stream.chunks(step) {
            socket.feed(piece, Gap::Contiguous, |message| heard.push(message.to_vec()));
        }
        heard
    }

    #[test]
    fn messages_come_out_whatever_masks_fragments_and_pings_are_around_them() {
        let mask = Some([1, 2, 3, 4]);
        let (head, tail) = MESSAGE.split_at(11);
        let stream = [
            UPGRADE,
            &frame(0x81, mask, MESSAGE),
            &frame(0x89, mask, b"ping"),
            &frame(0x02, mask, head),
            &frame(0x8a, mask, b""),
            &frame(0x00, mask, b""),
            &frame(0x80, mask, tail),
            &frame(0x81, None, b"\r\n\r\n"),
            &frame(0x81, mask, &MESSAGE.repeat(9)),
        ]
        .concat();
        for step in [1, 2, 7, 64, stream.len()] {
            assert_eq!(heard(&stream, step), [MESSAGE, MESSAGE, &MESSAGE.repeat(9)], "{step}");
        }
    }

    #[test]
    fn http_that_does_not_become_sip_is_left_alone() {
        for head in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n",
        ] {
            let mut socket = WebSocket::new(head);
            socket.feed(head, Gap::Contiguous, |_| panic!("no SIP"));
            assert!(socket.is_other());
        }
        let mut endless = WebSocket::new(b"GET ");
        for _ in 0..=WEBSOCKET_HEAD_BYTES_MAX / 100 {
            endless.feed(&[b'x'; 100], Gap::Contiguous, |_| panic!("no SIP"));
        }
        assert!(endless.is_other());
    }

    #[test]
    fn a_direction_is_joined_in_the_middle_and_found_again_behind_a_gap() {
        let masked = frame(0x81, Some([9, 8, 7, 6]), MESSAGE);
        assert_eq!(looks_like_websocket(&masked), Likeness::Yes);
        assert_eq!(
            looks_like_websocket(&frame(0x81, None, b"{\"no\": \"SIP at all\"}")),
            Likeness::No
        );
        assert_eq!(looks_like_websocket(&masked[..3]), Likeness::Maybe);
        assert_eq!(heard(&masked, 5), [MESSAGE]);
        let (mut socket, mut count) = (WebSocket::new(&masked), 0);
        socket.feed(&masked[..20], Gap::Contiguous, |_| panic!("not whole"));
        socket.feed(b"the middle of a message", Gap::Gap, |_| panic!("lost"));
        socket.feed(&masked, Gap::Contiguous, |_| count += 1);
        assert_eq!(count, 1);
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_what_follows_is_read() {
        let part = vec![b'x'; 60_000];
        let mut stream = UPGRADE.to_vec();
        stream.extend(frame(0x01, None, &part));
        (0..3).for_each(|_| stream.extend(frame(0x00, None, &part)));
        stream.extend(frame(0x80, None, &part));
        stream.extend(frame(0x81, None, MESSAGE));
        assert_eq!(heard(&stream, 1_400), [MESSAGE]);
    }

    #[test]
    fn compressed_messages_are_unpacked_with_their_memory_and_bounded() {
        use flate2::{Compress, Compression, FlushCompress};
        let mut packer = Compress::new(Compression::best(), false);
        let mut packed = |plain: &[u8]| {
            let mut out = Vec::with_capacity(plain.len() + 1_000);
            packer.compress_vec(plain, &mut out, FlushCompress::Sync).expect("packed");
            out.truncate(out.len() - 4);
            frame(0xc1, Some([5, 5, 5, 6]), &out)
        };
        let again = [MESSAGE, b" and more"].concat();
        let mut stream = [UPGRADE, &packed(MESSAGE), &packed(&again)].concat();
        assert_eq!(heard(&stream, 50), [MESSAGE, &again]);
        stream.extend(packed(&vec![b' '; 4 * SIP_MESSAGE_BYTES_MAX]));
        stream.extend(frame(0x81, None, MESSAGE));
        assert_eq!(heard(&stream, 1_000), [MESSAGE, &again, MESSAGE]);
    }
}
