//! The counted fate of every frame.
//!
//! Purpose: nothing disappears; received = the sum over outcomes, at the end of a run exactly.
//! Invariants: the variant in snake_case is the label; one frame has one outcome.
//! Non-goals: what became of an RTP packet inside a stream (see `rtp::StreamCounts`).
//! Sources: none.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// What became of a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FrameOutcome { $($(#[$doc])* $variant,)* }

        impl FrameOutcome {
            /// Every outcome, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Metric and JSON label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

outcomes! {
    /// Carried SIP that was handed on (over TCP: bytes of a SIP connection).
    Sip = "sip",
    /// RTP of a known flow, handed to its call's queue.
    Rtp = "rtp",
    /// RTCP of a known flow.
    Rtcp = "rtcp",
    /// DTLS or ZRTP of a known flow: how its SRTP keys are agreed on.
    KeyExchange = "key_exchange",
    /// UDPTL of a known flow: T.38 fax.
    Fax = "fax",
    /// IP, but neither SIP nor RTP nor RTCP; or not IP at all (ARP, LLDP…).
    NotVoip = "not_voip",
    /// Looks like RTP or RTCP, but no SDP announced it in time.
    UnclaimedRtp = "unclaimed_rtp",
    /// RTP of a flow that belongs to a call which has ended.
    AfterEnd = "after_end",
    /// RTP of a fork's branch that was not the one that answered.
    LosingFork = "losing_fork",
    /// RTP of an announced medium that is not audio (video, application).
    NotAudio = "not_audio",
    /// The same frame as one a moment before.
    Duplicate = "duplicate",
    /// The `--filter` expression did not match.
    Filtered = "filtered",
    /// A fragment held, or merged into a datagram that a later fragment completed.
    Fragment = "fragment",
    /// A fragment given up: its datagram never came whole, or the memory cap was met.
    FragmentDropped = "fragment_dropped",
    /// Not even a link-layer header.
    MalformedLink = "malformed_link",
    /// An IP header or what follows it contradicts itself.
    MalformedIp = "malformed_ip",
    /// A UDP or TCP header that contradicts itself.
    MalformedTransport = "malformed_transport",
    /// SIP by its first bytes, but not parseable.
    MalformedSip = "malformed_sip",
    /// The capture cut the frame (snap length) and what is left cannot be used.
    CutShort = "cut_short",
    /// A link type that we do not read.
    UnsupportedLink = "unsupported_link",
    /// TCP of a SIP connection without new bytes: handshake, acknowledgement, retransmission.
    TcpControl = "tcp_control",
    /// SIP over TCP given up: a gap that never filled, or a cap was met.
    TcpDropped = "tcp_dropped",
    /// TLS whose secrets were not given, or not in time, so that nobody knows what it carries (counted where TLS is read).
    TlsWithoutKey = "tls_without_key",
    /// SIP that found the correlator's queue full (live only).
    SipQueueFull = "sip_queue_full",
    /// RTP ahead of its SDP that met the orphan buffer's cap.
    OrphanDropped = "orphan_dropped",
    /// RTP of a known flow for which no memory was left (live only).
    QueueFull = "queue_full",
    /// A call beyond the table's capacity.
    CallLimit = "call_limit",
}

impl FrameOutcome {
    /// How many outcomes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Position in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// True when callspan itself lost something that it should have kept (exit status 3).
    #[must_use]
    pub const fn is_our_loss(self) -> bool {
        matches!(self, Self::SipQueueFull | Self::OrphanDropped | Self::QueueFull | Self::CallLimit)
    }
}

/// Frames by outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeCounts {
    counts: [u64; FrameOutcome::COUNT],
}

impl Default for OutcomeCounts {
    fn default() -> Self {
        Self { counts: [0; FrameOutcome::COUNT] }
    }
}

impl OutcomeCounts {
    /// Counts one frame.
    pub fn add(&mut self, outcome: FrameOutcome) {
        self.add_many(outcome, 1);
    }

    /// Counts `frames` frames of one outcome.
    pub fn add_many(&mut self, outcome: FrameOutcome, frames: u64) {
        if let Some(count) = self.counts.get_mut(outcome.index()) {
            *count = count.saturating_add(frames);
        }
    }

    /// Takes frames off an outcome that turned out to be wrong; the caller counts them anew.
    pub fn take_many(&mut self, outcome: FrameOutcome, frames: u64) {
        if let Some(count) = self.counts.get_mut(outcome.index()) {
            *count = count.saturating_sub(frames);
        }
    }

    /// Frames of one outcome.
    #[must_use]
    pub fn get(&self, outcome: FrameOutcome) -> u64 {
        self.counts.get(outcome.index()).copied().unwrap_or(0)
    }

    /// Adds another count, outcome by outcome.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// The sum over all outcomes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Every outcome with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (FrameOutcome, u64)> + '_ {
        FrameOutcome::ALL.iter().copied().zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_variants_in_snake_case_and_indexes_match() {
        for (position, outcome) in FrameOutcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), position);
            let mut snake = String::new();
            for letter in format!("{outcome:?}").chars() {
                if letter.is_ascii_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            assert_eq!(outcome.label(), snake);
        }
    }

    #[test]
    fn totals_are_sums() {
        let mut counts = OutcomeCounts::default();
        counts.add(FrameOutcome::Rtp);
        counts.add_many(FrameOutcome::Sip, 4);
        let mut twice = counts;
        twice.merge(&counts);
        assert_eq!((twice.get(FrameOutcome::Sip), twice.total()), (8, 10));
    }
}
