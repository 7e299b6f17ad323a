//! Offer and answer within one dialog of a call (one branch of a fork).
//!
//! Purpose: know what each party's media is now, what is only offered, and what was refused.
//! Invariants: a confirmed description changes only by an answered offer; a refused or broken
//! re-INVITE leaves it as it was; retransmissions change nothing.
//! Non-goals: when the call is answered (see `correlator`).
//! Sources: RFC 3264 §4, RFC 3261 §13.2.1 and §14, RFC 3262 §5, RFC 3311 §5, RFC 6337 (summary of
//! offer/answer patterns).
//!
//! ```text
//! INVITE(offer) ─ 18x/2xx(answer)        INVITE() ─ 18x/2xx(offer) ─ PRACK/ACK(answer)
//! UPDATE(offer) ─ 2xx(answer)            re-INVITE as INVITE; ≥ 300 refuses the open offer
//! ```

use super::media_description::MediaDescription;
use crate::base::Channel;
use crate::rtp::flow_table::{Claim, ClaimRole};
use crate::rtp::plan::{ChannelPlan, MediaPlan, MediaState, Protection};

/// An offer without an answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOffer {
    /// Who offers.
    pub by: Channel,
    /// What.
    pub media: MediaDescription,
    /// CSeq number of the transaction.
    pub cseq: u32,
}

/// The way an SDP body came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In a request that can only answer (ACK, PRACK), or may answer what is open.
    Acknowledgement,
    /// In another request: an offer.
    Request,
    /// In a response: an answer where the other party's offer is open, else an offer.
    Response,
}

/// One dialog: a callee's To tag and both parties' media.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branch {
    /// The callee's tag.
    pub tag: Vec<u8>,
    caller: Option<MediaDescription>,
    callee: Option<MediaDescription>,
    open: Option<OpenOffer>,
    answered_cseq: Option<(Channel, u32)>,
}

impl Branch {
    /// A dialog that begins with the INVITE's offer, where it had one.
    #[must_use]
    pub fn new(tag: &[u8], open: Option<OpenOffer>) -> Self {
        Self { tag: tag.to_vec(), open, ..Self::default() }
    }

    /// Takes an SDP body that `by` sent in the transaction `cseq`.
    pub fn on_sdp(&mut self, by: Channel, carrier: Carrier, cseq: u32, media: MediaDescription) {
        let answers = self.open.as_ref().is_some_and(|open| {
            open.by != by && (carrier == Carrier::Acknowledgement || open.cseq == cseq)
        });
        match carrier {
            Carrier::Response | Carrier::Acknowledgement if answers => {
                if let Some(open) = self.open.take() {
                    self.answered_cseq = Some((by, open.cseq));
                    *self.side(open.by) = Some(open.media);
                    *self.side(by) = Some(media);
                }
            }
            // The answer again: in the 2xx after the 18x, a retransmission, or from another hop.
            Carrier::Response if self.answered_cseq == Some((by, cseq)) => self.repeat(by, media),
            Carrier::Acknowledgement if self.answered_cseq == Some((by, cseq)) => {
                self.repeat(by, media);
            }
            _ if self.is_repeat_of_answered_offer(by, cseq) => self.repeat(by, media),
            _ => self.open_offer(OpenOffer { by, media, cseq }),
        }
    }

    /// The transaction `cseq` of the party `requester` was refused. Each party numbers its own
    /// requests (RFC 3261 §12.2.1.1), so that the number alone does not name one.
    pub fn on_failure(&mut self, requester: Channel, cseq: u32) {
        let is_refused = |open: &OpenOffer| open.by == requester && open.cseq == cseq;
        if self.open.as_ref().is_some_and(is_refused) {
            self.open = None;
        }
    }

    /// A description as the current hop or a later response repeats it.
    fn repeat(&mut self, by: Channel, media: MediaDescription) {
        match self.side(by) {
            Some(known) if *known != media => known.merge_hop(&media),
            Some(_) => {}
            empty => *empty = Some(media),
        }
    }

    fn is_repeat_of_answered_offer(&self, by: Channel, cseq: u32) -> bool {
        self.answered_cseq == Some((by.other(), cseq))
    }

    fn open_offer(&mut self, offer: OpenOffer) {
        match &mut self.open {
            Some(open) if open.by == offer.by && open.cseq == offer.cseq => {
                open.media.merge_hop(&offer.media);
            }
            open => *open = Some(offer),
        }
    }

    const fn side(&mut self, channel: Channel) -> &mut Option<MediaDescription> {
        match channel {
            Channel::Caller => &mut self.caller,
            Channel::Callee => &mut self.callee,
        }
    }

    /// A party's descriptions: what is confirmed, then what is only offered.
    pub fn descriptions(&self, party: Channel) -> impl Iterator<Item = &MediaDescription> {
        let confirmed = match party {
            Channel::Caller => &self.caller,
            Channel::Callee => &self.callee,
        };
        let open = self.open.as_ref().filter(|open| open.by == party).map(|open| &open.media);
        confirmed.iter().chain(open)
    }

    /// The addresses that both parties claim.
    pub fn claims(&self, out: &mut Vec<Claim>) {
        for party in Channel::BOTH {
            for description in self.descriptions(party) {
                description.claims(party, out);
            }
        }
    }

    /// Addresses of a callee that did not answer, unless a winner uses them too.
    pub fn loser_claims(&self, out: &mut Vec<Claim>) {
        for description in self.descriptions(Channel::Callee) {
            for endpoint in description.audio_endpoints() {
                let taken = out.iter().any(|claim| claim.endpoint == endpoint);
                if !taken {
                    let party = Channel::Callee;
                    out.push(Claim { endpoint, party, role: ClaimRole::Loser });
                }
            }
        }
    }

    /// What each party sends, by this dialog.
    #[must_use]
    pub fn plan(&self) -> MediaPlan {
        MediaPlan {
            caller: self.channel_plan(Channel::Caller),
            callee: self.channel_plan(Channel::Callee),
            losers: Vec::new(),
            legs: Vec::new(),
        }
    }

    fn channel_plan(&self, sender: Channel) -> ChannelPlan {
        let mut plan = ChannelPlan::default();
        for party in [sender.other(), sender] {
            for description in self.descriptions(party) {
                for format in description.formats() {
                    if !plan.formats.contains(format) {
                        plan.formats.push(format.clone());
                    }
                }
            }
        }
        plan.protection = self.protection();
        self.add_keys(sender, &mut plan);
        plan.state = self.state(sender);
        plan
    }

    /// Whether a party's sound is expected.
    fn state(&self, sender: Channel) -> MediaState {
        let sends = self.confirmed(sender).is_none_or(MediaDescription::sends_audio);
        let receives = self.confirmed(sender.other()).is_none_or(MediaDescription::receives_audio);
        match (sends && receives, self.has_fax()) {
            (true, _) => MediaState::Flowing,
            (false, true) => MediaState::Fax,
            (false, false) => MediaState::OnHold,
        }
    }

    /// True when both parties take T.38.
    fn has_fax(&self) -> bool {
        let takes = |party| self.confirmed(party).is_some_and(MediaDescription::has_fax);
        Channel::BOTH.into_iter().all(takes)
    }

    /// What offer and answer agreed on; while another offer is open, or there is no answer yet, each
    /// packet tells for itself (RFC 8643 §3.1: crypto attributes in RTP/AVP count when both have them).
    fn protection(&self) -> Protection {
        let offered = self.open.as_ref().map(|open| open.media.protection());
        let agreed = match (&self.caller, &self.callee) {
            (Some(caller), Some(callee)) => {
                let (one, other) = (caller.protection(), callee.protection());
                match one.min(other) {
                    Protection::Plain if one.max(other) == Protection::Encrypted => {
                        Protection::Optional
                    }
                    Protection::Plain => Protection::Plain,
                    _ => one.max(other),
                }
            }
            (one, other) => {
                let side = one.as_ref().or(other.as_ref()).map(MediaDescription::protection);
                return side.max(offered).unwrap_or_default();
            }
        };
        if offered.is_none_or(|offered| offered == agreed) { agreed } else { Protection::Optional }
    }

    /// The keys of the sender's own SDP: those whose tags the other party repeated come first.
    fn add_keys(&self, sender: Channel, plan: &mut ChannelPlan) {
        let answered = self.confirmed(sender.other()).into_iter();
        let tags: Vec<u32> =
            answered.flat_map(MediaDescription::crypto).map(|offer| offer.tag).collect();
        let own = || self.descriptions(sender).flat_map(MediaDescription::crypto);
        let (accepted, rest): (Vec<_>, Vec<_>) = own().partition(|own| tags.contains(&own.tag));
        plan.add_keys(accepted.into_iter().chain(rest).flat_map(|offer| &offer.keys));
        plan.add_refused(own().filter_map(|offer| offer.refused.as_ref()));
    }

    const fn confirmed(&self, party: Channel) -> Option<&MediaDescription> {
        match party {
            Channel::Caller => self.caller.as_ref(),
            Channel::Callee => self.callee.as_ref(),
        }
    }

    /// True when neither party can be heard, by SDP.
    #[must_use]
    pub fn is_on_hold(&self) -> bool {
        Channel::BOTH.into_iter().any(|channel| self.state(channel) == MediaState::OnHold)
    }
}
