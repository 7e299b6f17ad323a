//! What one party's SDP says, cut down to what a recorder needs.
//!
//! Purpose: turn an SDP body into addresses to claim and formats to decode.
//! Invariants: a value, compared to notice changes; bounded by the SDP parser's limits.
//! Non-goals: who offered and who answered (see `dialog`).
//! Sources: RFC 4566, RFC 3264 §8.4 (hold), RFC 3605 (`a=rtcp`), RFC 5761 §5.1.3 (`a=rtcp-mux`),
//! RFC 8839 (ICE candidates), RFC 9143 (bundles), ITU-T T.38 annex D (`m=image … udptl t38`).

use super::sdes::{CryptoOffer, crypto_offers};
use crate::base::limits::CLAIMS_PER_CALL_MAX;
use crate::base::{Channel, Endpoint};
use crate::rtp::flow_table::{Claim, ClaimRole};
use crate::rtp::plan::{MediaFormat, Protection};
use crate::sip::{Direction, Media, MediaKind, MediaPaths, Sdp};

/// One party's media, as its SDP describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaDescription {
    audio: Vec<AudioMedium>,
    /// Where T.38 is received.
    fax: Vec<Endpoint>,
    other: Vec<Endpoint>,
}

/// An address that ICE may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Possible {
    endpoint: Endpoint,
    /// Whose it is.
    of: Whose,
    role: ClaimRole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Writer,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AudioMedium {
    endpoint: Option<Endpoint>,
    rtcp: Option<Endpoint>,
    candidates: Vec<Possible>,
    ssrcs: Vec<u32>,
    formats: Vec<MediaFormat>,
    sends: bool,
    receives: bool,
    protection: Protection,
    crypto: Vec<CryptoOffer>,
}

impl MediaDescription {
    /// From a parsed body.
    #[must_use]
    pub fn from_sdp(sdp: &Sdp<'_>) -> Self {
        let mut description = Self::default();
        for medium in &sdp.media {
            if medium.kind == MediaKind::Image && medium.port != 0 {
                description.fax.extend(medium.address.map(|ip| Endpoint::new(ip, medium.port)));
            } else if medium.kind == MediaKind::Audio {
                description.audio.push(audio_medium(medium));
            } else if medium.port != 0 {
                description.other.extend(medium.address.map(|ip| Endpoint::new(ip, medium.port)));
            }
        }
        description
    }

    /// The addresses to claim for the party that sent this SDP.
    pub fn claims(&self, party: Channel, out: &mut Vec<Claim>) {
        let mut claim = |endpoint, party, role| {
            let claim = Claim { endpoint, party, role };
            let is_new = match role {
                // What the media line says is more than a candidate says again.
                ClaimRole::Candidate => {
                    !out.iter().any(|known| (known.endpoint, known.party) == (endpoint, party))
                }
                _ => !out.contains(&claim),
            };
            if out.len() < CLAIMS_PER_CALL_MAX && is_new {
                out.push(claim);
            }
        };
        for medium in &self.audio {
            if let Some(endpoint) = medium.endpoint {
                claim(endpoint, party, ClaimRole::Audio);
            }
            if let Some(rtcp) = medium.rtcp {
                claim(rtcp, party, ClaimRole::Rtcp);
            }
        }
        for endpoint in &self.fax {
            claim(*endpoint, party, ClaimRole::Fax);
        }
        // A bundle's video has the audio's address: payload types tell them apart (RFC 9143).
        let is_bundled = |at: &&Endpoint| self.audio_endpoints().any(|audio| audio == **at);
        for endpoint in self.other.iter().filter(|at| !is_bundled(at)) {
            claim(*endpoint, party, ClaimRole::NotAudio);
            let rtcp = endpoint.with_port(endpoint.port.wrapping_add(1));
            claim(rtcp, party, ClaimRole::NotAudio);
        }
        for possible in self.audio.iter().flat_map(|medium| &medium.candidates) {
            let whose = if possible.of == Whose::Writer { party } else { party.other() };
            claim(possible.endpoint, whose, possible.role);
        }
    }

    /// SSRCs that this party sends audio with, as far as it says so (RFC 5576).
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + '_ {
        self.audio.iter().flat_map(|medium| medium.ssrcs.iter().copied())
    }

    /// True when this party takes T.38.
    #[must_use]
    pub fn has_fax(&self) -> bool {
        !self.fax.is_empty()
    }

    /// Addresses where audio is received.
    pub fn audio_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.audio.iter().filter_map(|medium| medium.endpoint)
    }

    /// Audio formats, in the SDP's order.
    pub fn formats(&self) -> impl Iterator<Item = &MediaFormat> {
        self.audio.iter().flat_map(|medium| &medium.formats)
    }

    /// True when this party says that it sends audio.
    #[must_use]
    pub fn sends_audio(&self) -> bool {
        self.audio.iter().any(|medium| medium.sends)
    }

    /// True when this party says that it receives audio.
    #[must_use]
    pub fn receives_audio(&self) -> bool {
        self.audio.iter().any(|medium| medium.receives && medium.has_address())
    }

    /// The most that any audio medium has.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.audio.iter().map(|medium| medium.protection).max().unwrap_or_default()
    }

    /// SDES keys that this party sends with, if they are accepted.
    pub fn crypto(&self) -> impl Iterator<Item = &CryptoOffer> {
        self.audio.iter().flat_map(|medium| &medium.crypto)
    }

    /// Adds the addresses of the same description as another hop carries it (a proxy that relays
    /// media rewrites them and keeps the dialog).
    pub fn merge_hop(&mut self, other: &Self) {
        for medium in &other.audio {
            if self.audio.len() < 4 && !self.audio.contains(medium) {
                self.audio.push(medium.clone());
            }
        }
        for endpoint in &other.fax {
            if self.fax.len() < 4 && !self.fax.contains(endpoint) {
                self.fax.push(*endpoint);
            }
        }
    }
}

impl AudioMedium {
    /// True where it is said where to send to: with ICE the media line may say nothing yet.
    fn has_address(&self) -> bool {
        self.endpoint.is_some() || !self.candidates.is_empty()
    }
}

/// Addresses that ICE may choose, those behind a NAT's included.
fn possible(paths: &MediaPaths) -> Vec<Possible> {
    let role = |component: u16| match component {
        1 => Some(ClaimRole::Candidate),
        2 => Some(ClaimRole::Rtcp),
        _ => None,
    };
    let mut list = Vec::new();
    let mut add = |of, component, (ip, port)| {
        let endpoint = Endpoint::new(ip, port);
        let Some(role) = role(component).filter(|_| !endpoint.is_unspecified()) else { return };
        let possible = Possible { endpoint, of, role };
        if !list.contains(&possible) {
            list.push(possible);
        }
    };
    for candidate in &paths.candidates {
        add(Whose::Writer, candidate.component, candidate.at);
        if let Some(related) = candidate.related {
            add(Whose::Writer, candidate.component, related);
        }
    }
    for (component, at) in &paths.remote {
        add(Whose::Other, *component, *at);
    }
    list
}

fn audio_medium(medium: &Media<'_>) -> AudioMedium {
    let endpoint = medium
        .address
        .filter(|_| medium.port != 0)
        .map(|ip| Endpoint::new(ip, medium.port))
        .filter(|endpoint| !endpoint.is_unspecified());
    let rtcp = endpoint.filter(|_| !medium.has_rtcp_mux).map(|rtp| match medium.rtcp {
        Some(rtcp) => match rtcp.address {
            Some(ip) => Endpoint::new(ip, rtcp.port),
            None => rtp.with_port(rtcp.port),
        },
        None => rtp.with_port(rtp.port.wrapping_add(1)),
    });
    let formats = medium.formats.iter().map(|format| MediaFormat {
        payload_type: format.payload_type,
        encoding: format.encoding.clone(),
        clock_hz: format.clock_hz,
        channels: format.channels,
        fmtp: format.fmtp.map_or_else(String::new, |text| String::from_utf8_lossy(text).into()),
    });
    // A medium that was refused says nothing of the one beside it that was not.
    let protection = if medium.port == 0 {
        Protection::Plain
    } else if medium.protocol.is_encrypted() {
        Protection::Encrypted
    } else if medium.crypto_count > 0 || medium.has_fingerprint {
        Protection::Optional
    } else {
        Protection::Plain
    };
    let active = medium.port != 0;
    AudioMedium {
        endpoint,
        rtcp,
        candidates: if active { possible(&medium.paths) } else { Vec::new() },
        ssrcs: medium.paths.ssrcs.clone(),
        formats: formats.collect(),
        sends: active && matches!(medium.direction, Direction::SendRecv | Direction::SendOnly),
        receives: active && matches!(medium.direction, Direction::SendRecv | Direction::RecvOnly),
        protection,
        crypto: if active { crypto_offers(medium) } else { Vec::new() },
    }
}
