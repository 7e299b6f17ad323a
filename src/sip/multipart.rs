//! The session description in a body of several parts.
//!
//! Purpose: find the `application/sdp` part, also where multiparts are nested.
//! Invariants: each level walks its lines once, at most [`DEPTH_MAX`] levels; no recursion.
//! Non-goals: other parts, transfer encodings, `multipart/alternative`'s order of preference.
//! Sources: RFC 2046 §5.1 (multipart), RFC 5621 §3 (multipart bodies in SIP).

use super::lines::{HeaderLines, is_same_header, parameter, split_line, trim};

/// Levels of multipart that are opened; SIP uses one, with some gateways two.
const DEPTH_MAX: usize = 4;

/// The SDP of a body of the given Content-Type; `None` if there is none.
pub(crate) fn find_sdp<'a>(content_type: &'a [u8], body: &'a [u8]) -> Option<&'a [u8]> {
    if is_sdp(content_type) {
        return (!body.is_empty()).then_some(body);
    }
    let mut levels = [None; DEPTH_MAX];
    if let Some(outermost) = levels.first_mut() {
        *outermost = Parts::new(content_type, body);
    }
    let mut depth = 0usize;
    loop {
        let next = levels.get_mut(depth)?.as_mut().and_then(Parts::next);
        match next {
            Some((kind, content)) if is_sdp(kind) => return Some(content),
            Some((kind, content)) => {
                let inner = Parts::new(kind, content);
                if let (Some(slot), Some(_)) = (levels.get_mut(depth.saturating_add(1)), inner) {
                    *slot = inner;
                    depth = depth.saturating_add(1);
                }
            }
            None => depth = depth.checked_sub(1)?,
        }
    }
}

fn is_sdp(content_type: &[u8]) -> bool {
    media_type(content_type).eq_ignore_ascii_case(b"application/sdp")
}

fn media_type(content_type: &[u8]) -> &[u8] {
    trim(content_type.split(|byte| *byte == b';').next().unwrap_or(&[]))
}

/// The parts of one multipart body.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    boundary: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    /// `None` if the type is not multipart or names no boundary. The preamble is skipped.
    fn new(content_type: &'a [u8], body: &'a [u8]) -> Option<Self> {
        let head = media_type(content_type).get(..10)?;
        if !head.eq_ignore_ascii_case(b"multipart/") {
            return None;
        }
        let boundary = parameter(content_type, "boundary").filter(|name| !name.is_empty())?;
        let mut parts = Self { boundary, rest: body };
        parts.until_boundary();
        Some(parts)
    }

    /// What stands before the next delimiter line, which is consumed; its last line end belongs
    /// to the delimiter (RFC 2046 §5.1.1).
    fn until_boundary(&mut self) -> &'a [u8] {
        let whole = self.rest;
        while !self.rest.is_empty() {
            let before = whole.len().saturating_sub(self.rest.len());
            let (line, rest) = split_line(self.rest);
            self.rest = rest;
            let name = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(self.boundary));
            if name.is_some_and(|tail| matches!(trim(tail), b"" | b"--")) {
                let content = whole.get(..before).unwrap_or(whole);
                let content = content.strip_suffix(b"\n").unwrap_or(content);
                return content.strip_suffix(b"\r").unwrap_or(content);
            }
        }
        whole
    }

    /// Content-Type (empty if absent) and content of the next part.
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        let mut lines = HeaderLines::new(self.until_boundary());
        let mut kind: &[u8] = &[];
        for line in &mut lines {
            if is_same_header(line.name, b"Content-Type") {
                kind = trim(line.value);
            }
        }
        Some((kind, lines.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdp_part_is_found_among_others_and_one_level_down() {
        let flat =
            b"preamble\r\n--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n--b1\r\n\
            c: application/SDP;charset=utf-8\r\n\r\nv=0\r\ns=-\r\n--b1--\r\nepilogue";
        let found = find_sdp(b"multipart/mixed; boundary=\"b1\"", flat);
        assert_eq!(found, Some(&b"v=0\r\ns=-"[..]));
        let nested =
            b"--o\nContent-Type: multipart/alternative;boundary=i\n\n--i\n\nplain\n--i--\n\
            --o\nContent-Type: application/sdp\n\nv=0\n--o--\n";
        assert_eq!(find_sdp(b"Multipart/Mixed;boundary=o", nested), Some(&b"v=0"[..]));
    }

    #[test]
    fn bodies_without_sdp_boundaries_or_ends_are_no_sdp() {
        let body = b"--b\r\nContent-Type: text/plain\r\n\r\nv=0\r\n--b--\r\n";
        assert_eq!(find_sdp(b"multipart/mixed;boundary=b", body), None);
        assert_eq!(find_sdp(b"multipart/mixed", body), None);
        assert_eq!(find_sdp(b"text/plain", b"v=0"), None);
        assert_eq!(find_sdp(b"application/sdp", b""), None);
        let torn = b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n";
        assert_eq!(find_sdp(b"multipart/mixed;boundary=b", torn), Some(&b"v=0\r\n"[..]));
        for cut in 0..torn.len() {
            let _ = find_sdp(b"multipart/mixed;boundary=b", &torn[..cut]);
        }
    }

    #[test]
    fn nesting_deeper_than_the_limit_is_given_up() {
        let mut body = b"Content-Type: application/sdp\n\nv=0\n".to_vec();
        for level in 0..6 {
            let kind = format!("Content-Type: multipart/mixed;boundary=b{level}\n\n--b{level}\n");
            body = [kind.as_bytes(), &body, format!("--b{level}--\n").as_bytes()].concat();
        }
        let mut lines = HeaderLines::new(&body);
        let kind = lines.by_ref().next().expect("type").value;
        assert_eq!(lines.next(), None);
        assert_eq!(find_sdp(kind, lines.rest()), None);
    }
}
