//! Who can open recordings: age recipients, and the identities that open for them.
//!
//! Purpose: wrap a call's audio key as an ordinary age file for every recipient, and open it.
//! Invariants: recipients are public, and identities are never kept longer than the command that
//! was given them; what is wrapped here opens with any age implementation.
//! Non-goals: age plugins and passphrases.
//! Sources: age-encryption.org/v1 (X25519, ssh-ed25519 and ssh-rsa stanzas).

use std::fmt;
use std::io::{Read, Write};
use std::iter;

use age::secrecy::ExposeSecret;
use age::{Decryptor, Encryptor, Identity, IdentityFile, Recipient, ssh, x25519};
use zeroize::Zeroizing;

use super::secret::{KEY_BYTES, Secret};

/// Recipients of an archive at most: their wrapped keys must fit a slot.
pub use crate::base::limits::RECIPIENTS_MAX;

enum Known {
    X25519(x25519::Recipient),
    Ssh(ssh::Recipient),
}

/// One who can open recordings.
pub struct ArchiveRecipient {
    known: Known,
    text: String,
}

impl fmt::Debug for ArchiveRecipient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl ArchiveRecipient {
    /// Reads a public key: `age1…`, or a line of an SSH public key file (ssh-ed25519, ssh-rsa).
    ///
    /// # Errors
    /// One sentence that says which forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with("AGE-SECRET-KEY-") {
            return Err("that is a secret key: give its public key, `age1…`".to_owned());
        }
        if let Ok(known) = text.parse::<x25519::Recipient>() {
            return Ok(Self { known: Known::X25519(known), text: text.to_owned() });
        }
        if let Ok(known) = text.parse::<ssh::Recipient>() {
            // A comment may name a person: only type and key are kept.
            let text = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            return Ok(Self { known: Known::Ssh(known), text });
        }
        Err(format!("`{text}` is no recipient: give `age1…`, or an ssh-ed25519 or ssh-rsa key"))
    }

    /// Its public key as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn as_age(&self) -> &dyn Recipient {
        match &self.known {
            Known::X25519(known) => known,
            Known::Ssh(known) => known,
        }
    }
}

/// Wraps `key` for all `recipients`, as a binary age file.
///
/// # Errors
/// What age says, in one line.
pub fn wrap(recipients: &[ArchiveRecipient], key: &Secret) -> Result<Vec<u8>, String> {
    let all = recipients.iter().map(ArchiveRecipient::as_age);
    let encryptor = Encryptor::with_recipients(all).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let write = |out: &mut Vec<u8>| {
        let mut writer = encryptor.wrap_output(out)?;
        writer.write_all(key.bytes())?;
        writer.finish().map(|_| ())
    };
    write(&mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

/// Secret keys that open recordings.
pub struct Identities(Vec<Box<dyn Identity + Send + Sync>>);

impl fmt::Debug for Identities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identities({})", self.0.len())
    }
}

impl Identities {
    /// None at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads an identity file: lines of `AGE-SECRET-KEY-1…`, as `age-keygen` and `callspan keys new`
    /// write them, or an SSH private key without a passphrase.
    ///
    /// # Errors
    /// One sentence; it never holds what the file holds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "give a file of `callspan keys new` or age-keygen, or an SSH private key \
                    without a passphrase";
        if text.contains("PRIVATE KEY-----") {
            return match ssh::Identity::from_buffer(text.as_bytes(), None) {
                Ok(ssh::Identity::Encrypted(_)) => {
                    Err(format!("it is protected by a passphrase; {form}"))
                }
                Ok(identity @ ssh::Identity::Unencrypted(_)) => Ok(Self(vec![Box::new(identity)])),
                _ => Err(format!("its SSH key is of a kind that age does not know; {form}")),
            };
        }
        let file = IdentityFile::from_buffer(text.as_bytes())
            .map_err(|_| format!("it holds no identity; {form}"))?;
        let identities = file.into_identities().map_err(|_| format!("it is not usable; {form}"))?;
        if identities.is_empty() {
            return Err(format!("it holds no identity; {form}"));
        }
        Ok(Self(identities))
    }

    /// Opens a wrapped key; `None` when it was not wrapped for any of these.
    #[must_use]
    pub fn unwrap(&self, wrapped: &[u8]) -> Option<Secret> {
        let decryptor = Decryptor::new(wrapped).ok()?;
        let all = self.0.iter().map(|identity| &**identity as &dyn Identity);
        let mut reader = decryptor.decrypt(all).ok()?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        reader.read_exact(key.as_mut()).ok()?;
        let ends = reader.read(&mut [0]).ok()? == 0;
        if ends { Secret::from_slice(key.as_slice()) } else { None }
    }
}

/// A new pair: the text of an identity file as age-keygen writes it, and the public key.
#[must_use]
pub fn new_pair(created: &str) -> (Zeroizing<String>, String) {
    let identity = x25519::Identity::generate();
    let public = identity.to_public().to_string();
    let secret = identity.to_string();
    let mut text = Zeroizing::new(format!("# created: {created}\n# public key: {public}\n"));
    text.extend(iter::once(secret.expose_secret()));
    text.push('\n');
    (text, public)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Identities, ArchiveRecipient) {
        let (text, public) = new_pair("2026-11-25T00:00:00Z");
        let identities = Identities::parse(&text).expect("an identity file");
        (identities, ArchiveRecipient::parse(&public).expect("a recipient"))
    }

    #[test]
    fn each_recipient_opens_what_was_wrapped_for_all_and_a_stranger_does_not() {
        let (first, one) = pair();
        let (second, two) = pair();
        let (stranger, _) = pair();
        let key = Secret::from_slice(&[3; 32]).expect("32 bytes");
        let wrapped = wrap(&[one, two], &key).expect("wrapped");
        for identities in [&first, &second] {
            assert_eq!(identities.unwrap(&wrapped).expect("opened").bytes(), key.bytes());
        }
        assert!(stranger.unwrap(&wrapped).is_none());
        assert!(Identities::none().unwrap(&wrapped).is_none());
        for place in 0..wrapped.len() {
            assert!(first.unwrap(&wrapped[..place]).is_none(), "cut at {place}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_printed() {
        let (text, _) = new_pair("now");
        let secret = text.lines().last().expect("a line");
        let error = ArchiveRecipient::parse(secret).expect_err("a secret key");
        assert!(!error.contains(secret), "{error}");
        assert!(ArchiveRecipient::parse("age1nonsense").is_err());
        assert!(Identities::parse("nonsense").expect_err("no identity").contains("age-keygen"));
        assert!(Identities::parse("# only a comment\n").is_err());
    }

    #[test]
    fn an_ssh_key_is_a_recipient_without_its_comment() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN \
                    alice@rust";
        let recipient = ArchiveRecipient::parse(line).expect("a recipient");
        assert!(!recipient.text().contains("alice"), "{recipient:?}");
        assert!(recipient.text().starts_with("ssh-ed25519 AAAA"));
    }
}
