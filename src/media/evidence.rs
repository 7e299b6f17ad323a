//! By what evidence each flow is of its call.
//!
//! Purpose: keep what fronts tell of a flow before its first packet, for the report.
//! Invariants: the surest evidence of a flow counts; at most `STREAMS_PER_CALL_MAX` flows.
//! Non-goals: finding it (see `rtp::flow_table`, `call::strangers`).
//! Sources: none; docs/addresses.md tells what each kind means.

use super::report::StreamReport;
use crate::base::limits::STREAMS_PER_CALL_MAX;
use crate::base::{Endpoint, PacketEntry};
use crate::rtp::matched_by::MatchedBy;

/// Flows of one call, and how they were found.
#[derive(Debug, Default)]
pub struct Evidence {
    flows: Vec<(Endpoint, Endpoint, MatchedBy)>,
}

impl Evidence {
    /// Takes an entry of kind `Matched`.
    pub fn note(&mut self, entry: &PacketEntry<'_>) {
        let code = entry.payload.first().copied().unwrap_or(u8::MAX);
        let Some(by) = MatchedBy::from_code(code) else { return };
        let has_room = self.flows.len() < STREAMS_PER_CALL_MAX;
        let mut flows = self.flows.iter_mut();
        match flows.find(|flow| (flow.0, flow.1) == (entry.source, entry.destination)) {
            Some(flow) => flow.2 = flow.2.min(by),
            None if has_room => self.flows.push((entry.source, entry.destination, by)),
            None => {}
        }
    }

    /// A stream's report, with its evidence.
    #[must_use]
    pub fn complete(&self, report: StreamReport) -> StreamReport {
        let key = report.key;
        let mut flows = self.flows.iter();
        let flow = flows.find(|flow| (flow.0, flow.1) == (key.source, key.destination));
        StreamReport { matched_by: flow.map(|flow| flow.2), ..report }
    }
}
