//! Addresses in headers: From, To, Contact, P-Asserted-Identity, and Request-URIs.
//!
//! Purpose: who is calling whom, as a person would write it down.
//! Invariants: [`Party`] holds no control characters and at most
//! `limits::SIP_PARTY_TEXT_BYTES_MAX` bytes a field.
//! Non-goals: comparing URIs (RFC 3261 §19.1.4), resolving anything.
//! Sources: RFC 3261 §19.1, §20.10, §25.1; RFC 3966 (tel URIs); RFC 4475.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memrchr};

use super::lines::{parameter, split_around, trim, unfold};
use crate::base::limits;

/// `"Display" <uri>;parameters`, or `uri;parameters`, in slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameAddr<'a> {
    display: &'a [u8],
    uri: &'a [u8],
    parameters: &'a [u8],
}

/// A party of a call, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// `sip:user@host:port` without parameters and headers, `tel:` with the plain number, or
    /// another scheme's URI as it stands; empty if there is none.
    pub uri: String,
    /// User part without password and parameters, percent-decoded; a telephone number without its
    /// visual separators.
    pub number: String,
    /// Display name, or empty.
    pub name: String,
}

impl<'a> NameAddr<'a> {
    /// Reads a header value (or a URI alone); never fails: what is missing is empty.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Self {
        let value = trim(value);
        let Some(open) = find_open_bracket(value) else {
            // Without brackets, parameters belong to the header (RFC 3261 §20).
            let end = user_end(value);
            let tail = value.get(end..).unwrap_or(&[]);
            let stop = tail.iter().position(|byte| matches!(byte, b';' | b',' | b' ' | b'\t'));
            let end = stop.map_or(value.len(), |stop| end.saturating_add(stop));
            let (uri, parameters) = value.split_at_checked(end).unwrap_or((value, &[]));
            return Self { display: &[], uri: trim(uri), parameters };
        };
        let (display, rest) = split_around(value, open);
        let (uri, parameters) = match memchr(b'>', rest) {
            Some(close) => split_around(rest, close),
            None => (rest, &[] as &[u8]),
        };
        Self { display: trim(display), uri: trim(uri), parameters }
    }

    /// The URI as it stands, brackets removed; empty if there is none.
    #[must_use]
    pub const fn uri(&self) -> &'a [u8] {
        self.uri
    }

    /// The tag (RFC 3261 §19.3).
    #[must_use]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.parameter("tag").filter(|tag| !tag.is_empty())
    }

    /// A parameter of the header, not of the URI; empty for one without a value.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        parameter(self.parameters, name)
    }

    /// A parameter of the URI, such as `user` or `transport`.
    #[must_use]
    pub fn uri_parameter(&self, name: &str) -> Option<&'a [u8]> {
        let tail = self.uri.get(user_end(self.uri)..).unwrap_or(self.uri);
        let tail = tail.split(|byte| *byte == b'?').next().unwrap_or(tail);
        memchr(b';', tail).and_then(|at| parameter(split_around(tail, at).1, name))
    }

    /// A header that the URI asks for (`?Replaces=…`), percent-decoded (RFC 3261 §19.1.1).
    #[must_use]
    pub fn uri_header(&self, name: &str) -> Option<Vec<u8>> {
        let at = memchr(b'?', self.uri.get(user_end(self.uri)..)?)?;
        let headers = self.uri.get(user_end(self.uri).saturating_add(at)..)?;
        let found = headers.split(|byte| matches!(byte, b'?' | b'&')).find_map(|header| {
            let (key, value) = split_around(header, memchr(b'=', header)?);
            key.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })?;
        Some(decode(found))
    }

    /// `sip`, `sips`, `tel`…, in the case it has; empty without a colon.
    #[must_use]
    pub fn scheme(&self) -> &'a [u8] {
        memchr(b':', self.uri).map_or(&[], |at| split_around(self.uri, at).0)
    }

    /// User part, still escaped, with its parameters but without a password; for `tel:`
    /// everything before the first `;`.
    #[must_use]
    pub fn user(&self) -> Option<&'a [u8]> {
        let rest = memchr(b':', self.uri).map(|at| split_around(self.uri, at).1)?;
        if self.scheme().eq_ignore_ascii_case(b"tel") {
            return rest.split(|byte| *byte == b';').next().map(trim);
        }
        let user = rest.split_at_checked(at_sign(rest)?)?.0;
        user.split(|byte| *byte == b':').next().map(trim)
    }

    /// Host with its port, parameters and headers removed; IPv6 in its brackets.
    #[must_use]
    pub fn host_and_port(&self) -> Option<&'a [u8]> {
        let scheme = self.scheme();
        if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
            return None;
        }
        let rest = memchr(b':', self.uri).map(|at| split_around(self.uri, at).1)?;
        let host = at_sign(rest).map_or(rest, |at| split_around(rest, at).1);
        let end = memchr2(b';', b'?', host).unwrap_or(host.len());
        host.get(..end).map(trim).filter(|host| !host.is_empty())
    }

    /// Host without port; IPv6 in its brackets.
    #[must_use]
    pub fn host(&self) -> Option<&'a [u8]> {
        let host = self.host_and_port()?;
        let end = match host {
            [b'[', ..] => memchr(b']', host).map(|at| at.saturating_add(1)),
            _ => memchr(b':', host),
        };
        host.get(..end.unwrap_or(host.len()))
    }

    /// Display name: unquoted, escapes resolved, folds as one space, control characters as spaces.
    #[must_use]
    pub fn display_name(&self) -> String {
        let plain = unfold(self.display);
        let plain: Cow<'_, [u8]> = match plain.as_ref() {
            [b'"', inner @ ..] => Cow::Owned(unquote(inner)),
            _ => plain,
        };
        // Control characters at the ends have become spaces.
        readable(trim(&plain)).trim().to_owned()
    }

    /// Who this is, owned.
    #[must_use]
    pub fn party(&self) -> Party {
        let name = self.display_name();
        let scheme = String::from_utf8_lossy(self.scheme()).to_ascii_lowercase();
        let user = self.user().unwrap_or(&[]);
        let user = user.split(|byte| *byte == b';').next().unwrap_or(user);
        let is_phone =
            self.uri_parameter("user").is_some_and(|kind| kind.eq_ignore_ascii_case(b"phone"));
        let number = match (scheme.as_str(), is_phone) {
            ("tel", _) | ("sip" | "sips", true) => readable(&without_separators(&decode(user))),
            _ => readable(&decode(user)),
        };
        let uri = match (scheme.as_str(), self.host_and_port()) {
            ("tel", _) => cut(format!("tel:{number}")),
            ("sip" | "sips", Some(host)) => {
                let (user, host) = (readable(user), readable(host));
                let at = if user.is_empty() { "" } else { "@" };
                cut(format!("{scheme}:{user}{at}{host}"))
            }
            _ => readable(self.uri),
        };
        Party { uri, number, name }
    }
}

/// Where `<` stands, outside the quotes of a display name; where the quotes never end, the first.
fn find_open_bracket(value: &[u8]) -> Option<usize> {
    if value.first() == Some(&b'"') {
        let mut bytes = value.iter().enumerate().skip(1);
        while let Some((index, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'"' => {
                    let after = index.saturating_add(1);
                    let open = memchr(b'<', value.get(after..)?)?;
                    return Some(after.saturating_add(open));
                }
                _ => {}
            }
        }
    }
    memchr(b'<', value)
}

/// Where the `@` before the host stands. A user part may hold `;` and `?` (RFC 4475 §3.1.1.9), and
/// some phones leave an `@` in it unescaped, so it is the last one before the host's own tail.
fn at_sign(rest: &[u8]) -> Option<usize> {
    let first = memchr(b'@', rest)?;
    let tail = rest.get(first..)?;
    let end = memchr2(b';', b'?', tail).unwrap_or(tail.len());
    memrchr(b'@', tail.get(..end)?).map(|last| first.saturating_add(last))
}

/// Where the part begins in which `;` separates parameters: after the user part.
fn user_end(uri: &[u8]) -> usize {
    at_sign(uri).unwrap_or(0)
}

/// What stands before the closing quote, escapes resolved (`quoted-pair`).
fn unquote(inner: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => plain.extend(bytes.next()),
            byte => plain.push(byte),
        }
    }
    plain
}

/// Percent-decoded; escapes of control characters stay as they are, as in `null-%00-null`.
fn decode(user: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut plain = Vec::with_capacity(user.len());
    let mut rest = user;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (*byte, tail) {
            if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                let decoded = (high << 4) | low;
                if !decoded.is_ascii_control() {
                    plain.push(decoded);
                    rest = after;
                    continue;
                }
            }
        }
        plain.push(*byte);
    }
    plain
}

/// RFC 3966 §5.1.1.
fn without_separators(number: &[u8]) -> Vec<u8> {
    let is_separator = |byte: &u8| matches!(byte, b'-' | b'.' | b'(' | b')' | b' ');
    number.iter().copied().filter(|byte| !is_separator(byte)).collect()
}

/// UTF-8 without control characters, cut to the limit.
fn readable(bytes: &[u8]) -> String {
    // More bytes than the limit cannot matter: each makes at least one byte of text.
    let window = bytes.get(..limits::SIP_PARTY_TEXT_BYTES_MAX.saturating_add(4)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(window);
    cut(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect())
}

fn cut(mut text: String) -> String {
    if text.len() > limits::SIP_PARTY_TEXT_BYTES_MAX {
        let mut end = limits::SIP_PARTY_TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(value: &str) -> (String, String, String) {
        let Party { uri, number, name } = NameAddr::parse(value.as_bytes()).party();
        (uri, number, name)
    }

    fn expect(value: &str, uri: &str, number: &str, name: &str) {
        let expected = (uri.to_owned(), number.to_owned(), name.to_owned());
        assert_eq!(party(value), expected, "{value}");
    }

    #[test]
    fn parties_are_read_from_every_form() {
        expect("<sip:100@pbx>;tag=1", "sip:100@pbx", "100", "");
        expect("sip:100@pbx:5070;tag=1", "sip:100@pbx:5070", "100", "");
        expect("Alice <SIP:100@pbx;user=x?a=b>", "sip:100@pbx", "100", "Alice");
        expect(r#""A \"B\" <C>" <sips:a:secret@h>"#, "sips:a@h", "a", r#"A "B" <C>"#);
        expect("<sip:+1%2D5;phone-context=x@h>", "sip:+1%2D5@h", "+1-5", "");
        expect("<sip:+1-5.5@h;user=phone>", "sip:+1-5.5@h", "+155", "");
        expect("<tel:+44-(20) 7946.0000;ext=1>;tag=2", "tel:+442079460000", "+442079460000", "");
        expect("<sip:[2001:db8::1]:5060>", "sip:[2001:db8::1]:5060", "", "");
        expect("<urn:service:sos>", "urn:service:sos", "", "");
        expect("\"Mr. J. User <sip:j.user@h>", "sip:j.user@h", "j.user", "Mr. J. User");
        expect("\"A\r\n  B\" < sip:a@b >", "sip:a@b", "a", "A B");
        expect("<sip:n%00n@h>", "sip:n%00n@h", "n%00n", "");
        expect("<sip:a@b@h>", "sip:a@b@h", "a@b", "");
        expect("", "", "", "");
        expect("<", "", "", "");
    }

    #[test]
    fn tags_and_parameters_belong_to_the_header_not_to_the_uri() {
        let address = NameAddr::parse(b"<sip:a@h;tag=wrong;transport=tcp> ;\ttag = right");
        assert_eq!(address.tag(), Some(&b"right"[..]));
        assert_eq!(address.uri_parameter("transport"), Some(&b"tcp"[..]));
        assert_eq!(address.uri_parameter("lr"), None);
        let bare = NameAddr::parse(b"sip:a@h;tag=1");
        assert_eq!((bare.uri(), bare.tag()), (&b"sip:a@h"[..], Some(&b"1"[..])));
        assert_eq!(NameAddr::parse(b"<sip:a@h>;tag=").tag(), None);
        assert_eq!(NameAddr::parse(b"<sip:[::1]:5>").host(), Some(&b"[::1]"[..]));
        assert_eq!(NameAddr::parse(b"<sip:a;b=c@h:5;x>").host(), Some(&b"h"[..]));
    }

    #[test]
    fn text_is_cut_at_the_limit_on_a_letter() {
        let long = format!("\"{}\" <sip:{}@h>", "ä".repeat(300), "1".repeat(300));
        let party = NameAddr::parse(long.as_bytes()).party();
        assert_eq!(party.name, "ä".repeat(limits::SIP_PARTY_TEXT_BYTES_MAX / 2));
        assert_eq!(party.number.len(), limits::SIP_PARTY_TEXT_BYTES_MAX);
        assert_eq!(party.uri.len(), limits::SIP_PARTY_TEXT_BYTES_MAX);
        let invalid = NameAddr::parse(b"\"\xff\x00\x1b[2J\" <sip:\xfe@h>").party();
        assert_eq!((invalid.name.as_str(), invalid.number.as_str()), ("\u{fffd}  [2J", "\u{fffd}"));
    }
}
