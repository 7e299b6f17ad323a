//! Requests to a timestamping service and its answers (RFC 3161), as bytes.
//!
//! Purpose: let somebody else say when a checkpoint existed, so that its time does not rest on the
//! recorder's own clock.
//! Invariants: an answer is taken only if it is granted and names our digest and our nonce; any
//! bytes are safe: nothing recurses, and nothing beyond the given slice is read.
//! Non-goals: the token's signature, certificates, policy and revocation, which are not checked here
//! at all: `openssl ts -verify` does that, with the service's certificates, on the kept answer.
//! Sources: RFC 3161 §2.4; RFC 5652 §5 (SignedData); ITU-T X.690 (DER); RFC 5754 §2.2 (SHA-256).
//!
//! ```text
//! TimeStampReq   30 len  02 01 01   30 31 (30 0d 06 09 <id-sha256> 05 00) 04 20 <digest>
//!                        02 len <nonce>   01 01 ff (the answer shall hold the certificate)
//! TimeStampResp  30 len  30 len (02 01 <status> …)   30 len <token: ContentInfo>
//! token          06 09 <id-signedData>  a0 len 30 len  <version> <digest algorithms>
//!                        30 len  06 0b <id-ct-TSTInfo>  a0 len 04 len <TSTInfo>
//! TSTInfo        30 len  02 01 01  <policy>  <imprint as asked>  <serial>  18 len <time>
//!                        [30 accuracy] [01 ordering] [02 nonce] [a0 tsa] [a1 extensions]
//! ```

use super::merkle::Hash;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT: u8 = 0x06;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;

/// 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// Why an answer is worth nothing to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampFault {
    /// The bytes are no answer as drawn above.
    #[error("the answer is not an RFC 3161 response in DER")]
    Malformed,
    /// The service says no.
    #[error("the service refused (status {status}, {})", failure_name(*failure))]
    Refused {
        /// PKIStatus: 2 rejection, 3 waiting, 4 and 5 about revocation.
        status: u8,
        /// The first bit of PKIFailureInfo that is set, if any.
        failure: Option<u8>,
    },
    /// It is a timestamp of something else.
    #[error("the answer is for another digest")]
    OtherDigest,
    /// It answers another request, or an old one of ours.
    #[error("the answer is for another request")]
    OtherNonce,
}

impl TimestampFault {
    /// Metric label: the variant in snake_case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused { .. } => "refused",
            Self::OtherDigest => "other_digest",
            Self::OtherNonce => "other_nonce",
        }
    }
}

/// PKIFailureInfo's names (RFC 3161 §2.4.2).
const fn failure_name(bit: Option<u8>) -> &'static str {
    match bit {
        None => "no reason given",
        Some(0) => "badAlg",
        Some(2) => "badRequest",
        Some(5) => "badDataFormat",
        Some(14) => "timeNotAvailable",
        Some(15) => "unacceptedPolicy",
        Some(16) => "unacceptedExtension",
        Some(17) => "addInfoNotAvailable",
        Some(25) => "systemFailure",
        Some(_) => "unknown reason",
    }
}

/// A granted timestamp whose signature nobody has checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp<'a> {
    /// The service's time, in ns since 1970; digits beyond nanoseconds are cut off.
    pub time_ns: i64,
    /// The token alone (a ContentInfo), for `openssl ts -verify -token_in`.
    pub token: &'a [u8],
}

/// A request to timestamp `digest` (SHA-256), in DER, at most 70 bytes.
///
/// `nonce`: random, new for each request: the answer must repeat it.
/// Source: RFC 3161 §2.4.1.
#[must_use]
pub fn request(digest: &Hash, nonce: u64) -> Vec<u8> {
    let algorithm = element(SEQUENCE, &[&element(OBJECT, &[SHA256]), &element(NULL, &[])]);
    let imprint = element(SEQUENCE, &[&algorithm, &element(OCTET_STRING, &[digest.as_bytes()])]);
    let nonce = positive(nonce);
    let version = element(INTEGER, &[&[1]]);
    let certificate = element(BOOLEAN, &[&[0xff]]);
    element(SEQUENCE, &[&version, &imprint, &element(INTEGER, &[&nonce]), &certificate])
}

/// One element of less than 128 bytes, so that its length is one byte (X.690 §8.1.3.4).
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag, u8::try_from(content.len()).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(&content);
    bytes
}

/// The content of a positive INTEGER: no zero in front, but where the highest bit would be a sign.
fn positive(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let skipped = usize::try_from(number.leading_zeros() / 8).unwrap_or(0).min(7);
    let digits = bytes.iter().skip(skipped).copied();
    let is_signed = digits.clone().next().is_some_and(|first| first & 0x80 != 0);
    is_signed.then_some(0).into_iter().chain(digits).collect()
}

/// Reads the answer to a request for `digest` with `nonce`.
///
/// Checks what the invariants say, and nothing more: the signature is not looked at. Lengths must be
/// definite and minimal, as DER has them.
///
/// # Errors
/// Any [`TimestampFault`].
/// Source: RFC 3161 §2.4.2.
pub fn read_response<'a>(
    bytes: &'a [u8],
    digest: &Hash,
    nonce: u64,
) -> Result<Timestamp<'a>, TimestampFault> {
    let malformed = TimestampFault::Malformed;
    let mut outer = Der(bytes);
    let mut response = Der(outer.take(SEQUENCE).ok_or(malformed)?);
    if !outer.0.is_empty() {
        return Err(malformed);
    }
    let (status, failure) = status(response.take(SEQUENCE).ok_or(malformed)?).ok_or(malformed)?;
    // 0: granted, 1: granted with modifications; a token is there in no other case.
    if status > 1 {
        return Err(TimestampFault::Refused { status, failure });
    }
    let token = response.0;
    let content = response.take(SEQUENCE).filter(|_| response.0.is_empty()).ok_or(malformed)?;
    let info = content_of_token(content).and_then(TstInfo::read).ok_or(malformed)?;
    if info.algorithm != SHA256 || info.digest != digest.as_bytes() {
        return Err(TimestampFault::OtherDigest);
    }
    if info.nonce != positive(nonce) {
        return Err(TimestampFault::OtherNonce);
    }
    let time_ns = generalized_time(info.time).ok_or(malformed)?;
    Ok(Timestamp { time_ns, token })
}

/// PKIStatus, and the first bit of PKIFailureInfo.
fn status(content: &[u8]) -> Option<(u8, Option<u8>)> {
    let mut info = Der(content);
    let [status] = info.take(INTEGER)? else { return None };
    // The service's own words: they are for its people, not for our terminal.
    info.take_if(SEQUENCE)?;
    let bits = info.take_if(BIT_STRING)?;
    let bits = bits.split_first().map_or(&[][..], |(_, bits)| bits);
    let first = (0_u8..).zip(bits.iter().take(8)).find(|(_, byte)| **byte != 0);
    let failure = first.map(|(at, byte)| at * 8 + u8::try_from(byte.leading_zeros()).unwrap_or(0));
    (info.0.is_empty() && *status < 0x80).then_some((*status, failure))
}

/// The TSTInfo inside a token's content.
fn content_of_token(content: &[u8]) -> Option<&[u8]> {
    let mut token = Der(content);
    if token.take(OBJECT)? != SIGNED_DATA {
        return None;
    }
    let mut signed = Der(Der(token.take(CONTEXT_0)?).take(SEQUENCE)?);
    signed.take(INTEGER)?;
    signed.take(SET)?;
    let mut inner = Der(signed.take(SEQUENCE)?);
    if inner.take(OBJECT)? != TST_INFO {
        return None;
    }
    let mut octets = Der(Der(inner.take(CONTEXT_0)?).take(OCTET_STRING)?);
    octets.take(SEQUENCE).filter(|_| octets.0.is_empty())
}

struct TstInfo<'a> {
    algorithm: &'a [u8],
    digest: &'a [u8],
    time: &'a [u8],
    /// Empty if there is none.
    nonce: &'a [u8],
}

impl<'a> TstInfo<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let mut info = Der(content);
        if info.take(INTEGER)? != [1] {
            return None;
        }
        info.take(OBJECT)?;
        let mut imprint = Der(info.take(SEQUENCE)?);
        let algorithm = Der(imprint.take(SEQUENCE)?).take(OBJECT)?;
        let digest = imprint.take(OCTET_STRING).filter(|_| imprint.0.is_empty())?;
        info.take(INTEGER)?;
        let time = info.take(GENERALIZED_TIME)?;
        info.take_if(SEQUENCE)?;
        info.take_if(BOOLEAN)?;
        Some(Self { algorithm, digest, time, nonce: info.take_if(INTEGER)? })
    }
}

/// `YYYYMMDDhhmmss[.digits]Z` in ns since 1970 (RFC 3161 §2.4.2 on genTime).
fn generalized_time(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !is_number(whole) || !fraction.is_none_or(is_number) {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to)?.parse::<i8>().ok();
    let year = whole.get(..4)?.parse().ok()?;
    let nanos: String =
        fraction.unwrap_or("0").chars().chain("000000000".chars()).take(9).collect();
    let civil = jiff::civil::DateTime::new(
        year,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        nanos.parse().ok()?,
    );
    let time = jiff::tz::Offset::UTC.to_timestamp(civil.ok()?).ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// A cursor over DER elements; after `None` what is left has no meaning.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        let [found, first] = *head;
        if found != tag {
            return None;
        }
        let (len_bytes, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // One to four bytes of length, big-endian, no shorter form possible (X.690 §10.1).
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let len_bytes = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
                (Some(len_bytes).filter(|len| *len > 0x7f && digits.first() != Some(&0))?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len_bytes)?;
        self.0 = rest;
        Some(content)
    }

    /// The content of the next element if it has this tag, nothing if it has another or there is
    /// none; `None` if it is broken.
    fn take_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.take(tag) } else { Some(&[]) }
    }
}

#[cfg(test)]
#[path = "timestamp_tests.rs"]
mod tests;
