//! The two keys that the box holds: one signs segments, one opens metadata.
//!
//! Purpose: pass them together to whoever writes.
//! Invariants: neither opens a recording.
//! Non-goals: where their files are (see `cli::key_files`).
//! Sources: none.

use std::sync::Arc;

use super::secret::{BoxKey, KEY_BYTES, Secret, hex};
use super::signing::SigningKey;

/// The keys of the box.
#[derive(Clone)]
pub struct BoxKeys {
    /// Signs segments, `archive.toml` and `tombstones`.
    pub signing: Arc<SigningKey>,
    /// Opens metadata and the index.
    pub box_key: BoxKey,
}

impl std::fmt::Debug for BoxKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "BoxKeys({})", self.signing.verifying_key())
    }
}

impl BoxKeys {
    /// The keys that these random bytes make: the first half signs. The signing key's name (in its
    /// file and in every signature) is made from its bytes, so that two archives' differ.
    #[must_use]
    pub fn from_random(random: &[u8; 2 * KEY_BYTES]) -> Option<Self> {
        let (seed, secret) = random.split_first_chunk::<KEY_BYTES>()?;
        let name = Secret::from_slice(seed)?.derive("name");
        let name = hex(name.bytes().get(..4).unwrap_or_default());
        let signing = Arc::new(SigningKey::from_seed(&format!("callspan-{name}"), *seed)?);
        Some(Self { signing, box_key: BoxKey::new(Secret::from_slice(secret)?) })
    }
}
