//! Names for transactions and for whole messages.
//!
//! Purpose: recognise retransmissions, and join responses to their requests.
//! Invariants: the same message gives the same key in every run and on every machine.
//! Non-goals: transaction state (see `call`); collisions can be made on purpose.
//! Sources: RFC 3261 §8.1.1.7, §17.1.3, §17.2.3; RFC 4475 §3.2.1.

use super::lines::{Pieces, parameter, split_word};
use super::stable_hash::StableHash;
use super::{Message, Method};

/// Names the transaction that a message belongs to: equal for a request, its retransmissions and
/// its responses. Stable: the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionKey(pub u64);

impl Message<'_> {
    /// The transaction that the message belongs to.
    ///
    /// From the topmost Via's branch and sent-by, Call-ID and CSeq; where the branch is missing or
    /// only the magic cookie, the From tag stands in (RFC 3261 §17.2.3 takes the Request-URI too,
    /// which responses do not have). Call-ID and CSeq go in even beside a branch, because there
    /// are devices that use one branch for all. An ACK counts as its INVITE.
    #[must_use]
    pub fn transaction_key(&self) -> TransactionKey {
        let via = self.top_via();
        let mut hash = StableHash::new();
        let unique = parameter(via, "branch").filter(|branch| is_unique(branch));
        match unique {
            Some(branch) => hash.field(branch.iter().copied()),
            None => hash.field(self.from().tag().unwrap_or(&[]).iter().copied()),
        }
        let sent_by = sent_by(via).iter().filter(|byte| !byte.is_ascii_whitespace());
        hash.field(sent_by.map(u8::to_ascii_lowercase));
        hash.field(self.call_id().iter().copied());
        hash.field(self.cseq().number.to_le_bytes());
        let method = match self.cseq().method {
            Method::Ack => Method::Invite.name().as_bytes(),
            Method::Other => self.cseq_method_name(),
            named => named.name().as_bytes(),
        };
        hash.field(method.iter().copied());
        TransactionKey(hash.finish())
    }

    /// A stable hash of the whole message, from the start line to the end of the body: equal for
    /// a retransmission. Collisions can be made on purpose.
    #[must_use]
    pub fn content_key(&self) -> u64 {
        let mut hash = StableHash::new();
        let (start_line, headers) = self.head();
        hash.content(start_line);
        hash.content(headers);
        hash.content(self.body());
        hash.finish()
    }
}

/// RFC 3261 §8.1.1.7; alone, it identifies nothing (RFC 4475 §3.2.1).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

fn is_unique(branch: &[u8]) -> bool {
    !branch.is_empty() && !branch.eq_ignore_ascii_case(MAGIC_COOKIE)
}

/// `host:port` of a Via value: what follows `SIP / 2.0 / UDP `, before the first `;`.
fn sent_by(via: &[u8]) -> &[u8] {
    let protocol_and_host = Pieces::new(via, b';').next().unwrap_or(&[]);
    let after_version = protocol_and_host.splitn(3, |byte| *byte == b'/').nth(2).unwrap_or(&[]);
    split_word(after_version).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:bob@biloxi.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.example:5066;branch=z9hG4bK776asdhds;rport\r\n\
        Via: SIP/2.0/UDP below.example;branch=z9hG4bKbelow\r\n\
        Max-Forwards: 70\r\n\
        To: Bob <sip:bob@biloxi.example>\r\n\
        From: \"Alice\" <sip:alice@atlanta.example>;tag=1928301774\r\n\
        Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n\
        CSeq: 314159 INVITE\r\n\
        m: <sip:alice@pc33.atlanta.example>, <sip:second@x>\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 5\r\n\
        \r\n\
        v=0\r\n";

    #[test]
    fn a_transaction_joins_request_response_and_ack_but_not_its_neighbours() {
        let message = |start: &str, via: &str, cseq: &str| {
            let bytes =
                format!("{start}\r\nv: {via}\r\nf: <sip:a>;tag=7\r\ni: 1\r\nCSeq: {cseq}\r\n\r\n");
            Message::parse(bytes.as_bytes()).expect("message").transaction_key()
        };
        let (invite, ok) = ("INVITE sip:a SIP/2.0", "SIP/2.0 200 OK");
        for via in
            ["SIP/2.0/UDP h:5;branch=z9hG4bKa", "SIP/2.0/UDP h:5", "SIP/2.0/UDP h:5;branch=z9hG4bK"]
        {
            let key = message(invite, via, "1 INVITE");
            let answered = format!("{via};received=192.0.2.1, SIP/2.0/UDP other");
            assert_eq!(
                key,
                message(ok, &answered.replace("UDP h", "udp   H"), "1   INVITE"),
                "{via}"
            );
            assert_eq!(key, message("ACK sip:a SIP/2.0", via, "1 ACK"));
            assert_ne!(key, message("CANCEL sip:a SIP/2.0", via, "1 CANCEL"));
            assert_ne!(key, message(invite, via, "2 INVITE"));
            assert_ne!(key, message(invite, &via.replace("h:5", "h:6"), "1 INVITE"));
        }
    }

    #[test]
    fn a_content_key_is_the_same_for_a_retransmission_only() {
        let message = Message::parse(INVITE).expect("message");
        let again = [b"\r\n", INVITE].concat();
        assert_eq!(Message::parse(&again).expect("message").content_key(), message.content_key());
        let mut other = INVITE.to_vec();
        let last = other.len() - 3;
        other[last] = b'1';
        assert_ne!(Message::parse(&other).expect("message").content_key(), message.content_key());
        // Outputs are compared between runs: the value may not change by accident.
        assert_eq!(message.content_key(), 18_193_002_423_690_536_047);
    }
}
