//! `callspan drill`: does the back-up really open a recording?
//!
//! Purpose: prove, before it matters, that the keys that were kept open what was recorded.
//! Invariants: it reads every record of the calls that it tries, and writes nothing.
//! Non-goals: proving that all calls open (see `verify` for their bytes).
//! Sources: docs/keys.md.

use std::path::Path;

use super::Exit;
use super::key_files::{ArchivePlace, load_identities};
use super::output::{self, Failure};
use super::store::Store;
use crate::archive::Query;

/// Opens the newest `calls` recordings with an identity, whole.
pub fn drill(place: &ArchivePlace, identity: &Path, calls: u32) -> Result<Exit, Failure> {
    let mut store = Store::open(place)?;
    store.unlock(load_identities(identity)?);
    let query = Query { limit: Some(calls), ..Query::default() };
    let (mut opened, mut sound, mut bytes) = (0_u64, 0_u64, 0_usize);
    for call in store.found(&query)? {
        if call.summary.recording.state == "erased" {
            continue;
        }
        let messages = store.sip(call.id)?;
        let slots = store.slots(call.id)?;
        let raw = store.raw(call.id)?;
        opened += 1;
        sound += u64::from(!slots.is_empty() || !raw.is_empty());
        bytes += messages.iter().map(|message| message.bytes.len()).sum::<usize>();
        bytes += slots.iter().flat_map(|slot| &slot.packets).map(Vec::len).sum::<usize>();
        bytes += raw.iter().map(Vec::len).sum::<usize>();
    }
    if sound == 0 {
        return Err(Failure::failed(format_args!(
            "the drill proved nothing: none of the newest {calls} calls has a recording; give \
             --calls N"
        )));
    }
    output::remark(&format!(
        "the drill passed: {opened} calls opened whole, {sound} of them with sound, {bytes} bytes"
    ));
    Ok(Exit::Done)
}
