//! Asks a timestamping service over HTTP when a checkpoint existed (RFC 3161 §3.4).
//!
//! Purpose: fetch an answer that is worth keeping beside the checkpoint, or say why there is none.
//! Invariants: it takes at most the given time and [`TIMESTAMP_BYTES_MAX`] bytes, follows no
//! redirection and uses no proxy; only a SHA-256 digest leaves the machine.
//! Non-goals: HTTPS (the answer is signed; a digest is no secret); checking that signature, which
//! `openssl ts -verify` does with the service's certificates; when to ask, and where to keep it.
//! Sources: RFC 3161 §3.4; RFC 9110.

use std::time::Duration;

use crate::archive::merkle::Hash;
use crate::archive::timestamp::{TimestampFault, read_response, request};
use crate::base::limits::TIMESTAMP_BYTES_MAX;

const QUERY_TYPE: &str = "application/timestamp-query";
const REPLY_TYPE: &str = "application/timestamp-reply";

/// What a service answered: granted, for our digest and nonce; its signature is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampReply {
    /// The whole TimeStampResp, for `openssl ts -verify -in FILE -digest HEX`.
    pub response: Vec<u8>,
    /// The service's time, in ns since 1970.
    pub time_ns: i64,
}

/// Why there is no timestamp; its text says what to do, and holds nothing that the service sent.
#[derive(Debug, thiserror::Error)]
pub enum TimestampError {
    /// Not an `http://` address.
    #[error("{url:?} is no http:// address of a timestamping service: correct it")]
    Address {
        /// As given.
        url: String,
    },
    /// Not answered whole in time.
    #[error("the timestamping service {url} did not answer in {} ms: try later", limit.as_millis())]
    Slow {
        /// As given.
        url: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// No connection, or no HTTP.
    #[error("cannot ask the timestamping service {url}: {reason}")]
    Transport {
        /// As given.
        url: String,
        /// What HTTP or the system said.
        reason: String,
    },
    /// Another HTTP status than 200, or another type of content than RFC 3161 has.
    #[error("{url} does not answer like a timestamping service (HTTP status {status}): check it")]
    NoService {
        /// As given.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// Over [`TIMESTAMP_BYTES_MAX`] bytes.
    #[error("the answer of {url} is over {TIMESTAMP_BYTES_MAX} bytes: check the address")]
    TooLong {
        /// As given.
        url: String,
    },
    /// An answer that is refused, or not one to this request.
    #[error("no timestamp from {url}: {fault}")]
    Answer {
        /// As given.
        url: String,
        /// What is wrong with it.
        fault: TimestampFault,
    },
}

/// Asks the service at `url` to timestamp `digest`, waiting for `limit` at most, all told.
///
/// `nonce`: random, new for each call (`Disk::random`).
///
/// # Errors
/// Any [`TimestampError`]; nothing was kept anywhere.
pub fn fetch(
    url: &str,
    digest: &Hash,
    nonce: u64,
    limit: Duration,
) -> Result<TimestampReply, TimestampError> {
    if !url.starts_with("http://") {
        return Err(TimestampError::Address { url: url.to_owned() });
    }
    let (status, is_reply, response) = post(url, &request(digest, nonce), limit)?;
    if status != 200 || !is_reply {
        return Err(TimestampError::NoService { url: url.to_owned(), status });
    }
    let time_ns = read_response(&response, digest, nonce)
        .map_err(|fault| TimestampError::Answer { url: url.to_owned(), fault })?
        .time_ns;
    Ok(TimestampReply { response, time_ns })
}

/// HTTP status, whether the content is of the right type, and the content.
fn post(url: &str, body: &[u8], limit: Duration) -> Result<(u16, bool, Vec<u8>), TimestampError> {
    let fail = |error: ureq::Error| transport(url, limit, &error);
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .build()
        .new_agent();
    let sent = agent.post(url).content_type(QUERY_TYPE).header("accept", REPLY_TYPE).send(body);
    let mut answer = sent.map_err(fail)?;
    let kind = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).map(str::trim);
    let is_reply = kind.is_some_and(|kind| kind.eq_ignore_ascii_case(REPLY_TYPE));
    let most = u64::try_from(TIMESTAMP_BYTES_MAX).unwrap_or(u64::MAX);
    let content = answer.body_mut().with_config().limit(most).read_to_vec().map_err(fail)?;
    Ok((answer.status().as_u16(), is_reply, content))
}

fn transport(url: &str, limit: Duration, error: &ureq::Error) -> TimestampError {
    let url = url.to_owned();
    match error {
        ureq::Error::Timeout(_) => TimestampError::Slow { url, limit },
        ureq::Error::BodyExceedsLimit(_) => TimestampError::TooLong { url },
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => TimestampError::Address { url },
        // What the service sent may be in these errors: only their kind is told.
        ureq::Error::Protocol(_) => {
            TimestampError::Transport { url, reason: "it does not speak HTTP".to_owned() }
        }
        other => {
            let reason = other.to_string().lines().next().unwrap_or_default().to_owned();
            TimestampError::Transport { url, reason }
        }
    }
}
