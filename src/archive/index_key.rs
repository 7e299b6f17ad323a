//! The key of an encrypted index.
//!
//! Purpose: hand 256 bits to SQLCipher before it reads or writes the first page.
//! Invariants: neither the key nor its hex digits stay in memory when they are not needed any more,
//! and neither is ever printed.
//! Non-goals: where the key comes from, and pages that SQLite holds in memory.
//! Sources: SQLCipher's API documentation, "PRAGMA key" (raw key data).

use std::fmt;
use std::fmt::Write as _;

use rusqlite::Connection;
use zeroize::{Zeroize, Zeroizing};

/// A key for SQLCipher, used as it is: no passphrase, nothing to derive it from.
#[derive(Clone)]
pub struct IndexKey([u8; 32]);

impl IndexKey {
    /// Takes 256 random bits.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes the connection read and write with this key; must come before anything else.
    pub(super) fn unlock(&self, connection: &Connection) -> rusqlite::Result<()> {
        // Room for all of it: growing would leave copies behind.
        let mut sql = Zeroizing::new(String::with_capacity(128));
        // What a wrong key means is our error to tell, not SQLCipher's on standard error.
        sql.push_str("PRAGMA cipher_log_level = NONE; PRAGMA key = \"x'");
        for byte in self.0 {
            let _ = write!(sql, "{byte:02x}");
        }
        sql.push_str("'\";");
        connection.execute_batch(&sql)
    }
}

impl From<[u8; 32]> for IndexKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self::new(bytes)
    }
}

impl Drop for IndexKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("IndexKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", IndexKey::new([7; 32])), "IndexKey(…)");
    }
}
