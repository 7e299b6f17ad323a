//! The legs and conversations that are being followed; legs are found by Call-ID.
//!
//! Purpose: own legs and conversations; give out and take back their indexes.
//! Invariants: at most `CALLS_MAX` legs; an index is not given out again before the leg's Call-ID
//! is forgotten; iteration is in order of index, never of a hash; a conversation has the index of
//! the leg that it began with.
//! Non-goals: what a message means (see `leg`), what is told (see `conversation`).
//! Sources: RFC 3261 §8.1.1.4 (Call-ID).

use super::conversation::Conversation;
use super::leg::Leg;
use crate::base::CallIndex;
use crate::base::limits::CALLS_MAX;
use foldhash::fast::RandomState;
use std::collections::HashMap;

#[derive(Debug)]
struct Slot {
    leg: Leg,
    conversation: Option<Box<Conversation>>,
}

/// All legs.
#[derive(Debug, Default)]
pub struct CallTable {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_call_id: HashMap<Vec<u8>, CallIndex, RandomState>,
}

impl CallTable {
    /// Puts a leg into a free slot; `None` when the table is full. A leg with the same Call-ID that
    /// is over keeps its slot until it expires, but is no longer found.
    pub fn insert(
        &mut self,
        call_id: &[u8],
        make: impl FnOnce(CallIndex) -> Leg,
    ) -> Option<CallIndex> {
        let index = match self.free.pop() {
            Some(index) => CallIndex(index),
            None if self.slots.len() < CALLS_MAX => {
                self.slots.push(None);
                CallIndex(u32::try_from(self.slots.len() - 1).ok()?)
            }
            None => return None,
        };
        let slot = self.slots.get_mut(index.0 as usize)?;
        *slot = Some(Slot { leg: make(index), conversation: None });
        self.by_call_id.insert(call_id.to_vec(), index);
        Some(index)
    }

    /// The leg of a Call-ID.
    #[must_use]
    pub fn find(&self, call_id: &[u8]) -> Option<CallIndex> {
        self.by_call_id.get(call_id).copied()
    }

    fn slot_mut(&mut self, index: CallIndex) -> Option<&mut Slot> {
        self.slots.get_mut(index.0 as usize)?.as_mut()
    }

    fn slot(&self, index: CallIndex) -> Option<&Slot> {
        self.slots.get(index.0 as usize)?.as_ref()
    }

    /// A leg by its index.
    pub fn get_mut(&mut self, index: CallIndex) -> Option<&mut Leg> {
        Some(&mut self.slot_mut(index)?.leg)
    }

    /// A leg by its index.
    #[must_use]
    pub fn get(&self, index: CallIndex) -> Option<&Leg> {
        Some(&self.slot(index)?.leg)
    }

    /// A conversation by the index of its first leg.
    pub fn conversation_mut(&mut self, index: CallIndex) -> Option<&mut Conversation> {
        self.slot_mut(index)?.conversation.as_deref_mut()
    }

    /// A conversation by the index of its first leg.
    #[must_use]
    pub fn conversation(&self, index: CallIndex) -> Option<&Conversation> {
        self.slot(index)?.conversation.as_deref()
    }

    /// The leg begins a conversation.
    pub fn begin(&mut self, conversation: Conversation) {
        if let Some(slot) = self.slot_mut(conversation.index) {
            slot.conversation = Some(Box::new(conversation));
        }
    }

    /// The legs of a conversation, in the order in which they joined.
    pub fn legs_of(&self, conversation: CallIndex) -> impl Iterator<Item = &Leg> {
        let legs = self.conversation(conversation).map_or(&[][..], |it| it.legs.as_slice());
        legs.iter().filter_map(|index| self.get(*index))
    }

    /// True while a leg of the conversation is not over.
    #[must_use]
    pub fn has_live_leg(&self, conversation: CallIndex) -> bool {
        self.legs_of(conversation).any(Leg::is_live)
    }

    /// Forgets a leg, and the conversation that began with it, and frees its index.
    pub fn remove(&mut self, index: CallIndex) {
        let Some(slot) = self.slots.get_mut(index.0 as usize).and_then(Option::take) else {
            return;
        };
        if self.find(&slot.leg.sip_call_id) == Some(index) {
            self.by_call_id.remove(&slot.leg.sip_call_id);
        }
        self.free.push(index.0);
    }

    /// Legs in order of index.
    pub fn iter(&self) -> impl Iterator<Item = &Leg> {
        self.slots.iter().flatten().map(|slot| &slot.leg)
    }

    /// Conversations in order of index.
    pub fn conversations(&self) -> impl Iterator<Item = &Conversation> {
        self.slots.iter().flatten().filter_map(|slot| slot.conversation.as_deref())
    }

    /// Conversations that are not over.
    #[must_use]
    pub fn live(&self) -> usize {
        self.conversations().filter(|it| it.over_at.is_none()).count()
    }
}
