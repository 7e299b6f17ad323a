//! Key derivation of TLS: the PRF of version 1.2, and HKDF-Expand-Label of 1.3.
//!
//! Purpose: from a secret of the key log to keys, also for DTLS and its exporters.
//! Invariants: what is derived is wiped when it is dropped; a request that the functions are not defined for is `None`.
//! Non-goals: the PRF of TLS 1.0 and 1.1 (MD5), and secrets before those that a key log holds.
//! Sources: RFC 5246 §5 (PRF), RFC 5705 §4 (exporters), RFC 8446 §7.1 (HKDF-Expand-Label).

use aws_lc_rs::{hkdf, tls_prf};
use zeroize::Zeroizing;

use super::suite::Hash;

/// PRF(`secret`, `label`, `seed_1` + `seed_2`) of TLS 1.2 with the suite's hash; `len_bytes` long.
#[must_use]
pub fn prf(
    hash: Hash,
    secret: &[u8],
    label: &[u8],
    (seed_1, seed_2): (&[u8], &[u8]),
    len_bytes: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let algorithm = match hash {
        Hash::Sha256 => &tls_prf::P_SHA256,
        Hash::Sha384 => &tls_prf::P_SHA384,
    };
    let secret = tls_prf::Secret::new(algorithm, secret).ok()?;
    let derived = secret.derive_with_seed_concatination(label, seed_1, seed_2, len_bytes).ok()?;
    Some(Zeroizing::new(derived.as_ref().to_vec()))
}

/// What TLS 1.3 begins every label with; DTLS 1.3 has another word (RFC 9147 §5.9).
pub const TLS_1_3: &str = "tls13 ";

/// HKDF-Expand-Label(`secret`, `label`, `context`, `len_bytes`), its label behind the protocol's prefix.
#[must_use]
pub fn expand_label(
    hash: Hash,
    secret: &[u8],
    (prefix, label): (&str, &str),
    context: &[u8],
    len_bytes: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    if secret.len() != hash.len_bytes() {
        return None;
    }
    let algorithm = match hash {
        Hash::Sha256 => hkdf::HKDF_SHA256,
        Hash::Sha384 => hkdf::HKDF_SHA384,
    };
    let length = u16::try_from(len_bytes).ok()?.to_be_bytes();
    let label_length = [u8::try_from(prefix.len().checked_add(label.len())?).ok()?];
    let context_length = [u8::try_from(context.len()).ok()?];
    let (prefix, label) = (prefix.as_bytes(), label.as_bytes());
    let info = [&length[..], &label_length, prefix, label, &context_length, context];
    let mut derived = Zeroizing::new(vec![0; len_bytes]);
    let secret = hkdf::Prk::new_less_safe(algorithm, secret);
    secret.expand(&info, Length(len_bytes)).ok()?.fill(&mut derived).ok()?;
    Some(derived)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|c| c.to_digit(16))
            .filter_map(|digit| u8::try_from(digit).ok())
            .collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn traffic_keys_are_those_of_rfc_8448() {
        // RFC 8448 §3, "derive write traffic keys for handshake data" of the server.
        let secret = hex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38");
        let key = expand_label(Hash::Sha256, &secret, (TLS_1_3, "key"), &[], 16).expect("defined");
        let iv = expand_label(Hash::Sha256, &secret, (TLS_1_3, "iv"), &[], 12).expect("defined");
        assert_eq!(*key, hex("3fce516009c21727d0f2e4e86ee403bc"));
        assert_eq!(*iv, hex("5d313eb2671276ee13000b30"));
        assert!(expand_label(Hash::Sha384, &secret, (TLS_1_3, "key"), &[], 16).is_none());
    }

    #[test]
    fn the_prf_is_that_of_the_published_vector() {
        // The TLS 1.2 P_SHA256 vector of the IETF's TLS mailing list (2009, "TLS 1.2 PRF test vectors").
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
        let (head, tail) = seed.split_at(5);
        let derived =
            prf(Hash::Sha256, &secret, b"test label", (head, tail), 100).expect("defined");
        let wanted = "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af\
                      0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701\
                      87347b66";
        assert_eq!(*derived, hex(wanted));
        assert!(prf(Hash::Sha384, &[], b"test label", (head, tail), 1).is_none());
    }
}
