//! What a person should know of a call's recording.
//!
//! Purpose: sentences for the summary, each once.
//! Invariants: at most `NOTES_MAX`, so that no input makes a summary grow.
//! Non-goals: figures (see `report`).
//! Sources: none.

/// Sentences of one call.
const NOTES_MAX: usize = 16;

/// Sentences, in the order in which they were first said.
#[derive(Debug, Default)]
pub struct Notes {
    lines: Vec<String>,
}

impl Notes {
    /// Notes a sentence, once; true when it was new.
    pub fn add(&mut self, text: &str) -> bool {
        let is_new = self.lines.len() < NOTES_MAX && self.lines.iter().all(|line| line != text);
        if is_new {
            self.lines.push(text.to_owned());
        }
        is_new
    }

    /// The sentences.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }
}
