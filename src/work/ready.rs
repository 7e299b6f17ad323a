//! Calls that want a visit.
//!
//! Purpose: hand calls from fronts and correlator to the workers without a lock or an allocation.
//! Invariants: a call stands in it at most once, so a queue as long as the call table is never full.
//! Non-goals: who visits (see `pool`).
//! Sources: none.

use super::queue::CallSlot;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// The ready queue.
#[derive(Debug)]
pub struct Ready {
    calls: ArrayQueue<Arc<CallSlot>>,
}

impl Ready {
    /// For at most `calls_max` calls.
    #[must_use]
    pub fn new(calls_max: usize) -> Self {
        Self { calls: ArrayQueue::new(calls_max.max(1)) }
    }

    /// Asks for a visit of a call.
    pub fn request(&self, slot: &Arc<CallSlot>) {
        if slot.request_visit() {
            self.put(Arc::clone(slot));
        }
    }

    /// Puts a call that is marked as waiting onto the queue.
    pub fn put(&self, slot: Arc<CallSlot>) {
        let mut refused = self.calls.push(slot);
        // Calls that ended keep their place until they are finished, so that more than the table
        // holds may wait for a moment: the workers make room.
        while let Err(slot) = refused {
            std::hint::spin_loop();
            refused = self.calls.push(slot);
        }
    }

    /// Takes the next call.
    #[must_use]
    pub fn take(&self) -> Option<Arc<CallSlot>> {
        self.calls.pop()
    }

    /// Calls that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// True when no call waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
