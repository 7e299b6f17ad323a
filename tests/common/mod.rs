//! SIP traffic by intent, and a tap that watches the correlator.
//!
//! Purpose: say in a test who sends what to whom, and when; ask what the correlator made of it.
//! Invariants: time is virtual; the caller's tag is `alice`, a callee's is its branch.
//! Non-goals: RTP, transport.
//! Sources: RFC 3261 §8 (headers), RFC 4566 (SDP).

#![allow(dead_code)] // each test needs a part

use callspan::base::{CallIndex, Channel, Endpoint, FiveTuple, PacketTime, Protocol};
use callspan::call::{Attributed, CallEvent, CallFacts, Correlator};
use callspan::rtp::flow_table::{Claim, ClaimRole, LearnedFlow};
use callspan::rtp::plan::{Control, MediaPlan, MediaState};
use callspan::sip::Message;

/// Virtual time.
pub fn at_ms(ms: i64) -> PacketTime {
    PacketTime::from_ms(1_795_489_056_000 + ms)
}

/// An SDP body that receives PCMU at `place` (`ip:port`).
pub fn sdp(place: &str) -> String {
    sdp_that_is("sendrecv", place)
}

/// An SDP body with a direction attribute.
pub fn sdp_that_is(direction: &str, place: &str) -> String {
    let (ip, port) = place.split_once(':').expect("ip:port");
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na={direction}\r\n"
    )
}

/// A message on its way.
#[derive(Clone)]
pub struct Sip {
    start: String,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    method: String,
    body: String,
    headers: String,
    from_address: [u8; 4],
    to_address: [u8; 4],
}

/// A request of the caller outside of a dialog.
pub fn request(method: &str, cseq: u32) -> Sip {
    Sip {
        start: format!("{method} sip:bob@b.example SIP/2.0"),
        from: "<sip:alice@a.example>;tag=alice".into(),
        to: "<sip:bob@b.example>".into(),
        call_id: "1@a.example".into(),
        cseq,
        method: method.into(),
        body: String::new(),
        headers: String::new(),
        from_address: [10, 9, 0, 1],
        to_address: [10, 9, 0, 2],
    }
}

/// A response of the callee `branch` to a request of the caller.
pub fn response(status: u16, method: &str, cseq: u32, branch: &str) -> Sip {
    let start = format!("SIP/2.0 {status} Whatever");
    let request = request(method, cseq).in_dialog(branch);
    let (from_address, to_address) = (request.to_address, request.from_address);
    Sip { start, from_address, to_address, ..request }
}

impl Sip {
    /// Within the dialog with `branch`.
    pub fn in_dialog(mut self, branch: &str) -> Self {
        self.to = format!("<sip:bob@b.example>;tag={branch}");
        self
    }

    /// The callee's request, or the response to one.
    pub fn sent_by_callee(mut self) -> Self {
        std::mem::swap(&mut self.from, &mut self.to);
        std::mem::swap(&mut self.from_address, &mut self.to_address);
        self
    }

    /// With a body.
    pub fn with(mut self, sdp: impl Into<String>) -> Self {
        self.body = sdp.into();
        self
    }

    /// Of another Call-ID.
    pub fn of_call(mut self, call_id: impl Into<String>) -> Self {
        self.call_id = call_id.into();
        self
    }

    /// With one more header line.
    pub fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    /// On its way between these hosts of 10.9.0.0/24.
    pub fn between(mut self, from: u8, to: u8) -> Self {
        self.from_address[3] = from;
        self.to_address[3] = to;
        self
    }

    /// From another user than alice, whose tag stays.
    pub fn called_as(mut self, user: &str) -> Self {
        self.from = self.from.replace("alice@", &format!("{user}@"));
        self
    }

    /// To another user than bob.
    pub fn for_user(mut self, user: &str) -> Self {
        self.start = self.start.replace("bob@", &format!("{user}@"));
        self.to = self.to.replace("bob@", &format!("{user}@"));
        self
    }

    fn flow(&self) -> FiveTuple {
        let at = |ip| Endpoint::v4(ip, 5_060);
        let (source, destination) = (at(self.from_address), at(self.to_address));
        FiveTuple { protocol: Protocol::Udp, source, destination }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { start, from, to, call_id, cseq, method, body, headers, .. } = self;
        format!(
            "{start}\r\nVia: SIP/2.0/UDP a.example;branch=z9hG4bK{cseq}{method}\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{headers}\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A correlator, and what it has told.
#[derive(Default)]
pub struct Tap {
    /// The one under test.
    pub correlator: Correlator,
    /// Indexes of calls, as they were opened.
    pub opened: Vec<CallIndex>,
    /// Final facts, as calls ended.
    pub ended: Vec<CallFacts>,
    /// Facts at the answers.
    pub answered: Vec<CallFacts>,
    /// Claims as they are.
    pub claims: Vec<Claim>,
    /// All that was told of claims, in order.
    pub claims_told: Vec<(CallIndex, Vec<Claim>)>,
    /// Flows that calls have learned, in order.
    pub learned: Vec<(CallIndex, LearnedFlow)>,
    /// The plan as it is.
    pub plan: MediaPlan,
    /// Events so far.
    pub events: usize,
}

impl Tap {
    /// A message passes.
    pub fn sees(&mut self, ms: i64, sip: &Sip) -> Attributed {
        let bytes = sip.bytes();
        let message = Message::parse(&bytes).expect("a message");
        let attributed = self.correlator.on_message(at_ms(ms), sip.flow(), &message);
        self.collect();
        attributed
    }

    /// Nothing passes until `ms`; media last passed at `last_media_ms`.
    pub fn waits(&mut self, ms: i64, last_media_ms: Option<i64>) {
        self.correlator.expire(at_ms(ms), |_| last_media_ms.map(at_ms));
        self.collect();
    }

    /// Time goes on until `ms`.
    pub fn passes(&mut self, ms: i64) {
        self.correlator.let_go(at_ms(ms));
        self.collect();
    }

    /// callspan stops.
    pub fn stops(&mut self, ms: i64) {
        self.correlator.shut_down(at_ms(ms));
        self.collect();
    }

    fn collect(&mut self) {
        for event in self.correlator.drain() {
            self.events += 1;
            match event {
                CallEvent::Opened { call, .. } => self.opened.push(call),
                CallEvent::Claims { call, claims, .. } => {
                    self.claims_told.push((call, claims.clone()));
                    self.claims = claims;
                }
                CallEvent::Learned { call, flow, .. } => self.learned.push((call, flow)),
                CallEvent::Control { control: Control::Plan(plan), .. } => self.plan = plan,
                CallEvent::Control { .. } => {}
                CallEvent::Changed { facts, .. } => self.answered.push(*facts),
                CallEvent::Ended { facts, .. } => self.ended.push(*facts),
            }
        }
    }

    fn places(&self, wanted: impl Fn(&Claim) -> bool) -> Vec<String> {
        self.claims.iter().filter(|claim| wanted(claim)).map(|it| it.endpoint.to_string()).collect()
    }

    /// Where a party receives audio.
    pub fn audio_of(&self, party: Channel) -> Vec<String> {
        self.places(|claim| claim.party == party && claim.role == ClaimRole::Audio)
    }

    /// Where branches that lost receive audio.
    pub fn losers(&self) -> Vec<String> {
        self.places(|claim| claim.role == ClaimRole::Loser)
    }

    /// What is expected of caller and callee.
    pub fn states(&self) -> (MediaState, MediaState) {
        (self.plan.caller.state, self.plan.callee.state)
    }
}
