//! SRTP keys of one party's SDP.
//!
//! Purpose: turn `a=crypto` lines into keys that `media` can try, and name those that it cannot.
//! Invariants: bounded by the SDP parser's limits; no key is printed.
//! Non-goals: which line an answer accepted (see `dialog`), opening packets (see `rtp::srtp`).
//! Sources: RFC 4568 §6 (SRTP in SDES), §6.3 (session parameters that a listener must heed).

use crate::rtp::{Secrecy, SrtpKey, SrtpSuite};
use crate::sip::{CryptoLine, Media, SessionParameter};

/// Characters of a suite's name that are told of.
const NAME_CHARS_MAX: usize = 32;

/// What one `a=crypto` line gives its writer to send with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CryptoOffer {
    /// The line's tag; an answer repeats the one that it accepts.
    pub tag: u32,
    /// Keys, told apart by their MKI where there are several.
    pub keys: Vec<SrtpKey>,
    /// Why there is none.
    pub refused: Option<String>,
}

/// The lines of a medium.
pub fn crypto_offers(medium: &Media<'_>) -> Vec<CryptoOffer> {
    medium.crypto.iter().map(crypto_offer).collect()
}

fn crypto_offer(line: &CryptoLine<'_>) -> CryptoOffer {
    let (keys, refused) = match keys(line) {
        Ok(keys) => (keys, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    CryptoOffer { tag: line.tag, keys, refused }
}

fn keys(line: &CryptoLine<'_>) -> Result<Vec<SrtpKey>, String> {
    let name: String = line.suite.escape_ascii().to_string().chars().take(NAME_CHARS_MAX).collect();
    let Some(suite) = SrtpSuite::from_name(line.suite) else {
        return Err(format!("the suite {name}"));
    };
    let (mut rtp, mut rtcp) = (Secrecy::Encrypted, Secrecy::Encrypted);
    for parameter in line.parameters() {
        match parameter {
            SessionParameter::KeyDerivationRate(0) | SessionParameter::Other(_) => {}
            SessionParameter::KeyDerivationRate(_) => {
                return Err(format!("{name} with a key derivation rate"));
            }
            // Without a tag, no packet can be told from noise.
            SessionParameter::UnauthenticatedSrtp => return Err(format!("{name} without a tag")),
            SessionParameter::UnencryptedSrtp if suite.is_aead() => {
                return Err(format!("{name} without encryption"));
            }
            SessionParameter::UnencryptedSrtp => rtp = Secrecy::Unencrypted,
            SessionParameter::UnencryptedSrtcp => rtcp = Secrecy::Unencrypted,
        }
    }
    let keys = line.keys().filter_map(|inline| {
        let key = SrtpKey::from_inline(suite, inline.key_and_salt)?.with_secrecy(rtp, rtcp);
        Some(match inline.mki {
            Some((value, len_bytes)) => key.with_mki(&mki_bytes(value, usize::from(len_bytes))),
            None => key,
        })
    });
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() { Err(format!("a key that does not fit {name}")) } else { Ok(keys) }
}

/// The identifier as packets carry it: big-endian, `len_bytes` long.
fn mki_bytes(value: u64, len_bytes: usize) -> Vec<u8> {
    let number = value.to_be_bytes();
    let kept = number.get(number.len().saturating_sub(len_bytes)..).unwrap_or_default();
    let mut bytes = vec![0; len_bytes.saturating_sub(kept.len())];
    bytes.extend_from_slice(kept);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Channel::{Callee, Caller};
    use crate::call::dialog::{Branch, Carrier};
    use crate::call::media_description::MediaDescription;
    use crate::rtp::plan::{ChannelPlan, Protection};
    use crate::sip::Sdp;

    fn offers(lines: &str) -> Vec<CryptoOffer> {
        let text = format!("v=0\nm=audio 9 RTP/SAVP 0\n{lines}");
        crypto_offers(&Sdp::parse(text.as_bytes()).expect("SDP").media[0])
    }

    #[test]
    fn keys_are_read_with_their_mki_and_what_cannot_be_used_is_named() {
        let found = offers(
            "a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|\
             2^20|258:4;inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:1 UNENCRYPTED_SRTCP\n\
             a=crypto:2 F8_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\n\
             a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj KDR=3\n\
             a=crypto:4 AEAD_AES_256_GCM inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\n",
        );
        assert_eq!(found.iter().map(|offer| offer.tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let mkis: Vec<&[u8]> = found[0].keys.iter().map(SrtpKey::mki).collect();
        assert_eq!(mkis, [&[0, 0, 1, 2][..], &[1]]);
        let refused: Vec<_> = found.iter().filter_map(|offer| offer.refused.as_deref()).collect();
        assert_eq!(
            refused,
            [
                "the suite F8_128_HMAC_SHA1_80",
                "AES_CM_128_HMAC_SHA1_80 with a key derivation rate",
                "a key that does not fit AEAD_AES_256_GCM"
            ]
        );
        assert!(found[1..].iter().all(|offer| offer.keys.is_empty()));
        let printed = format!("{found:?}");
        assert!(!printed.contains("d0Rm") && !printed.contains("WVNf"), "{printed}");
    }

    #[test]
    fn an_mki_is_as_long_as_it_says() {
        assert_eq!(mki_bytes(258, 4), [0, 0, 1, 2]);
        assert_eq!(mki_bytes(258, 1), [2]);
        assert_eq!(mki_bytes(1, 10), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    const SAVP: &str = "RTP/SAVP 0";
    const AVP: &str = "RTP/AVP 0";

    /// A party's description with a key of AES_CM_128_HMAC_SHA1_80 for each tag, all of one letter.
    fn description(protocol: &str, lines: &[(u32, char)]) -> MediaDescription {
        let mut text = format!("v=0\nc=IN IP4 10.0.0.1\nm=audio 4000 {protocol}\n");
        for (tag, letter) in lines {
            let key = letter.to_string().repeat(40);
            let line = format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{key}\n");
            text.push_str(&line);
        }
        MediaDescription::from_sdp(&Sdp::parse(text.as_bytes()).expect("SDP"))
    }

    fn key(letter: char) -> SrtpKey {
        let text = letter.to_string().repeat(40);
        SrtpKey::from_inline(SrtpSuite::AesCm128Tag80, text.as_bytes()).expect("30 bytes")
    }

    #[track_caller]
    fn plan_is(plan: &ChannelPlan, protection: Protection, letters: &str) {
        let keys: Vec<_> = letters.chars().map(key).collect();
        assert_eq!((plan.protection, &plan.keys), (protection, &keys));
    }

    #[test]
    fn each_party_sends_with_the_key_of_its_own_sdp_and_the_accepted_line_comes_first() {
        let mut branch = Branch::default();
        let offer = description(SAVP, &[(1, 'A'), (2, 'B')]);
        branch.on_sdp(Caller, Carrier::Request, 1, offer);
        plan_is(&branch.plan().caller, Protection::Encrypted, "AB");
        plan_is(&branch.plan().callee, Protection::Encrypted, "");
        branch.on_sdp(Callee, Carrier::Response, 1, description(SAVP, &[(2, 'C')]));
        plan_is(&branch.plan().caller, Protection::Encrypted, "BA");
        plan_is(&branch.plan().callee, Protection::Encrypted, "C");
    }

    #[test]
    fn a_re_invite_changes_keys_and_both_are_known_while_it_is_open() {
        let mut branch = Branch::default();
        branch.on_sdp(Caller, Carrier::Request, 1, description(SAVP, &[(1, 'A')]));
        branch.on_sdp(Callee, Carrier::Response, 1, description(SAVP, &[(1, 'C')]));
        branch.on_sdp(Callee, Carrier::Request, 9, description(SAVP, &[(1, 'D')]));
        plan_is(&branch.plan().callee, Protection::Encrypted, "CD");
        branch.on_sdp(Caller, Carrier::Response, 9, description(SAVP, &[(1, 'B')]));
        plan_is(&branch.plan().callee, Protection::Encrypted, "D");
        plan_is(&branch.plan().caller, Protection::Encrypted, "B");
        // To the clear: until it is answered, packets tell.
        branch.on_sdp(Caller, Carrier::Request, 3, description(AVP, &[]));
        plan_is(&branch.plan().callee, Protection::Optional, "D");
        branch.on_sdp(Callee, Carrier::Response, 3, description(AVP, &[]));
        plan_is(&branch.plan().callee, Protection::Plain, "");
    }

    #[test]
    fn keys_beside_rtp_avp_count_when_both_have_them() {
        for (answer, protection) in [
            (description(AVP, &[(1, 'C')]), Protection::Optional),
            (description(AVP, &[]), Protection::Plain),
        ] {
            let mut branch = Branch::default();
            branch.on_sdp(Caller, Carrier::Request, 1, description(AVP, &[(1, 'A')]));
            plan_is(&branch.plan().caller, Protection::Optional, "A");
            branch.on_sdp(Callee, Carrier::Response, 1, answer);
            plan_is(&branch.plan().caller, protection, "A");
        }
    }
}
