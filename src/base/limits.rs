//! Every limit, with its unit, its reason and what happens when it is met.
//!
//! Purpose: memory has a ceiling that this file names.
//! Invariants: relations between limits are asserted at compile time.
//! Non-goals: what operators tune by flags (these are the flags' defaults and hard ends).
//! Sources: RFC 791 (datagram size), RFC 3261 §18 (SIP over TCP), RFC 3550 A.1.

/// Bytes of an IP datagram after reassembly: IPv4's total length is 16 bits.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams being rebuilt at once, for one ring; the oldest goes (`fragment_dropped`).
pub const FRAGMENTED_DATAGRAMS_MAX: usize = 1_024;

/// Bytes held in unfinished datagrams, for one ring; the oldest goes (`fragment_dropped`).
pub const FRAGMENT_BYTES_MAX: usize = 8 << 20;

/// A datagram that is not whole after this is given up (RFC 8200 §4.5 says 60 s; a mirror port
/// sees the parts within milliseconds, and long waits only serve floods).
pub const FRAGMENT_TIMEOUT_MS: i64 = 5_000;

/// TCP connections (one direction each) that carry SIP, followed at once for one ring; the least
/// recently used goes (`tcp_dropped` counts what was parked in it).
pub const TCP_FLOWS_MAX: usize = 8_192;

/// Bytes parked out of order in one TCP direction while a gap may fill; beyond it the gap is
/// skipped.
pub const TCP_GAP_BYTES_MAX: usize = 256 << 10;

/// Bytes parked out of order over all TCP flows of a ring.
pub const TCP_PARKED_BYTES_MAX: usize = 32 << 20;

/// A TCP gap older than this is skipped: the mirror lost the segment.
pub const TCP_GAP_TIMEOUT_MS: i64 = 2_000;

/// TCP directions whose SYN was seen and whose first bytes have not told yet whether they are SIP;
/// the oldest goes, and is judged by a later segment.
pub const TCP_OPENINGS_MAX: usize = 8_192;

/// Bytes parked in one such direction while its first segment may still come; beyond it the
/// direction is forgotten.
pub const TCP_OPENING_BYTES_MAX: usize = 16 << 10;

/// Bytes parked over all such directions of a ring; the longest waiting goes.
pub const TCP_OPENINGS_PARKED_BYTES_MAX: usize = 4 << 20;

/// First bytes of a TCP direction that are gathered, when it starts in tiny segments, until they
/// tell whether it is SIP.
pub const TCP_SNIFF_BYTES_MAX: usize = 64;

/// How far a TCP sequence number may be from the expected one and still belong there; Linux lets a
/// socket's window grow to 6 MiB.
pub const TCP_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// What a parked piece costs beside its bytes, so that one-byte segments meet the caps as well.
pub const TCP_PIECE_OVERHEAD_BYTES: usize = 96;

/// TLS connections whose secrets are kept from a key log; the oldest goes (`forgotten`). Each costs under 1 kB.
pub const KEY_LOG_CONNECTIONS_MAX: usize = 65_536;

/// Bytes of one line of a key log; a longer one is malformed (the longest that is known has 200).
pub const KEY_LOG_LINE_BYTES_MAX: usize = 512;

/// Bytes of one secret in a key log; a longer one is malformed (SHA-384 makes 48).
pub const KEY_LOG_SECRET_BYTES_MAX: usize = 64;

/// Bytes of one TLS handshake message; a longer one is passed over (certificate chains have a few kB).
pub const TLS_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Bytes of one TLS connection that wait for its secrets; beyond it they are dropped (`tls_without_key`).
pub const TLS_WAITING_BYTES_MAX: usize = 256 << 10;

/// What waits for TLS secrets longer than this is dropped: key logs come seconds late, not minutes.
pub const TLS_WAITING_MS_MAX: i64 = 60_000;

/// Sequence numbers tried for a TLS record behind a loss; more lost records than that end the direction.
pub const TLS_RESYNC_TRIES: u64 = 32;

/// TLS records in a row that do not open, places where a record might begin included; then the direction is given up.
pub const TLS_FAILED_RECORDS_MAX: u32 = 32;

/// TLS connections followed at once for one ring, where TLS is read at all; the least recently used goes.
pub const TLS_CONNECTIONS_MAX: usize = 4_096;

/// Bytes that wait for TLS secrets over all connections of a ring; what waits longest is dropped.
pub const TLS_WAITING_ALL_BYTES_MAX: usize = 32 << 20;

/// Connections that wait for TLS secrets are looked at in this interval, or when secrets come.
pub const TLS_POLL_MS: i64 = 1_000;

/// MPLS labels of one frame; more than eight are an unsupported link.
pub const MPLS_LABELS_MAX: usize = 8;

/// Tunnels within tunnels that are taken off a frame.
pub const TUNNELS_MAX: usize = 4;

/// VLAN tags of one frame; more than four are an unsupported link.
pub const VLAN_TAGS_MAX: usize = 4;

/// Extension headers of one IPv6 packet; more are malformed (RFC 8200 §4.1 knows seven).
pub const IPV6_EXTENSIONS_MAX: usize = 8;

/// Bytes of one SIP message: the largest UDP datagram; over TCP the corpus holds 64 kB bodies.
pub const SIP_MESSAGE_BYTES_MAX: usize = 128 << 10;

/// Bytes of an HTTP request's or answer's head that may change to WebSocket; with more it is not followed.
pub const WEBSOCKET_HEAD_BYTES_MAX: usize = 8 << 10;

/// Headers of one SIP message; the rest are ignored, and the message is marked.
pub const SIP_HEADERS_MAX: usize = 256;

/// Bytes of a SIP start line; a longer one is not taken for SIP (the longest of RFC 4475 has 1 kB).
pub const SIP_START_LINE_BYTES_MAX: usize = 8 << 10;

/// Bytes of a SIP method; a longer first word is not taken for one (RFC 4475 §3.1.1.2 has 43).
pub const SIP_METHOD_BYTES_MAX: usize = 64;

/// Bytes of UTF-8 kept of a party's URI, number or display name; the rest is cut off.
pub const SIP_PARTY_TEXT_BYTES_MAX: usize = 256;

/// Media sections (`m=`) read of one SDP body.
pub const SDP_MEDIA_MAX: usize = 16;

/// Payload formats read of one media section.
pub const SDP_FORMATS_MAX: usize = 32;

/// ICE candidates read of one media section, and remote ones.
pub const SDP_CANDIDATES_MAX: usize = 16;

/// Sources (`a=ssrc`) read of one media section.
pub const SDP_SSRCS_MAX: usize = 8;

/// `a=crypto` lines read of one media section; RFC 4568 leaves the number open, phones offer up to 8.
pub const SDP_CRYPTO_MAX: usize = 16;

/// Keys read of one `a=crypto` line (RFC 4568 §6.1 allows several, told apart by their MKI).
pub const SDP_CRYPTO_KEYS_MAX: usize = 8;

/// SRTP keys that one party may be sending with on one leg, by what it offers now.
pub const SRTP_KEYS_PER_CHANNEL_MAX: usize = 16;

/// SRTP keys tried for one party of a call: those of all its legs, and those that it sent with before.
/// Beyond it the oldest goes.
pub const SRTP_KEY_RING_MAX: usize = 2 * SRTP_KEYS_PER_CHANNEL_MAX;

/// Roll-over counters tried for a stream whose beginning was not seen: one lasts 22 minutes at 20 ms,
/// so that this reaches a day into a call.
pub const SRTP_ROC_TRIED_MAX: u32 = 66;

/// Bytes of a DTLS ClientHello or ServerHello; a longer one is passed over (with the key shares of
/// today's browsers a hello has under 2 kB).
pub const DTLS_HELLO_BYTES_MAX: usize = 8 << 10;

/// Records of a DTLS datagram, and messages of a record, that are looked at; a flight has five.
pub const DTLS_MESSAGES_PER_RECORD_MAX: usize = 8;

/// SRTP protection profiles read of one hello.
pub const DTLS_PROFILES_MAX: usize = 8;

/// Pairs of addresses in one call between which keys are agreed on (DTLS, ZRTP); more are ignored.
pub const KEY_EXCHANGES_PER_CALL_MAX: usize = 8;

/// Two equal frames closer than this are one frame that the mirror copied twice; a SIP
/// retransmission comes after 500 ms at the earliest (RFC 3261 §17.1.1.2, T1).
pub const DUPLICATE_WINDOW_MS: i64 = 20;

/// Recent frames remembered to find duplicates, for one ring: 20 ms at three million frames/s.
pub const DUPLICATE_SLOTS: usize = 1 << 16;

/// Frames compared on one hash chain; a seeded hash over as many buckets as slots stays far below.
pub const DUPLICATE_STEPS_MAX: usize = 64;

/// Calls followed at once; an INVITE beyond it is counted (`call_limit`) and not recorded.
pub const CALLS_MAX: usize = 50_000;

/// Dialog legs (branches of a fork, hops) of one call.
pub const LEGS_PER_CALL_MAX: usize = 32;

/// Media endpoints that one call may claim at once.
pub const CLAIMS_PER_CALL_MAX: usize = 32;

/// Flows that one call may have beside those that its SDP announces; more stay unclaimed.
pub const LEARNED_PER_CALL_MAX: usize = 16;

/// Calls that may announce the same address at once (forks, B2BUAs, ports used again after a lost
/// BYE); the oldest claim goes, so that a flood of equal INVITEs costs a packet no more than this.
pub const HOLDERS_PER_ENDPOINT_MAX: usize = 8;

/// RTP streams (SSRC one way) told apart in one call; more are counted in the last.
pub const STREAMS_PER_CALL_MAX: usize = 64;

/// SIP messages kept per call for the ladder; later ones are counted, not kept.
pub const SIP_MESSAGES_PER_CALL_MAX: usize = 2_000;

/// Keys read from one SIP message (a KPML response may have several): more than a number has.
pub const SIP_DIGITS_PER_MESSAGE_MAX: usize = 32;

/// Gaps and DTMF digits listed per call; more are summed into the last.
pub const GAPS_PER_CALL_MAX: usize = 2_000;

/// Flows (5-tuple and SSRC) that one front remembers; the least recently seen goes.
pub const FLOWS_MAX: usize = 4 * CALLS_MAX;

/// Streams in one ring's express lane, 64 bytes each; more find their way by their addresses.
pub const EXPRESS_STREAMS_MAX: usize = 1 << 17;

/// RTP ahead of its SDP waits this long.
pub const ORPHAN_WAIT_MS: i64 = 2_000;

/// RTCP packets and handshakes ahead of their SDP, for one ring; the oldest goes first.
pub const EARLY_PACKETS_MAX: usize = 256;

/// Orphan packets of one flow: 2 s at 10 ms ptime, and a little more.
pub const ORPHANS_PER_FLOW_MAX: usize = 256;

/// Orphan bytes in all, for one ring; the oldest flow goes whole (`orphan_dropped`).
pub const ORPHAN_BYTES_MAX: usize = 16 << 20;

/// Unclaimed flows remembered for the report on what was not recorded and why.
pub const UNCLAIMED_FLOWS_MAX: usize = 4_096;

/// A block of a call's queue: about 0.2 s of both directions of G.711 at 20 ms. A packet that is larger has a block of its size.
pub const BLOCK_BYTES: usize = 4 << 10;

/// Blocks that wait in one call's queue for one ring.
pub const CALL_QUEUE_BLOCKS: usize = 64;

/// Blocks in all: 1 GiB. Live, a call's packets beyond it are spilled, then dropped and counted.
pub const BLOCKS_MAX: usize = 262_144;

/// The same where nothing is recorded, and figures alone are late.
pub const HEADERS_AGE_MS_MAX: i64 = 2_000;

/// A block is handed to the workers after this, full or not: block, hold and commit together stay
/// within one commit interval.
pub const BLOCK_AGE_MS_MAX: i64 = 150;

/// SIP messages on their way from the fronts to the correlator (live).
pub const SIP_QUEUE_MAX: usize = 16_384;

/// Looks of unclaimed flows on their way from one front to the correlator (live); one that finds no
/// room is taken again later.
pub const SIGHT_QUEUE_MAX: usize = 1_024;

/// Calls that are compared with unclaimed flows within a second of packet time; beyond it flows stay
/// unclaimed until they are looked at again.
pub const CALLS_COMPARED_PER_S_MAX: usize = 20 * CALLS_MAX;

/// Unclaimed flows remembered as rivals of each other when one is about to be given to a call; the
/// oldest goes.
pub const STRANGERS_MAX: usize = 256;

/// Packets of one stream held for reordering: 64 × 20 ms = 1.28 s.
pub const REORDER_PACKETS_MAX: usize = 64;

/// Media held in memory for one call before it is answered, with `--start media`.
pub const EARLY_MEDIA_BYTES_MAX: usize = 2 << 20;

/// An INVITE without any final answer ends as `timeout` after this (RFC 3261 §16.6, timer C is
/// three minutes; ringing longer than that is cut by the networks we know).
pub const SETUP_TIMEOUT_MS: i64 = 300_000;

/// An answered call whose media has stopped, without BYE.
pub const MEDIA_TIMEOUT_MS: i64 = 60_000;

/// An answered call on hold (announced by SDP), or with RTCP only.
pub const HOLD_TIMEOUT_MS: i64 = 3_600_000;

/// An answered call for which no media ever came.
pub const NO_MEDIA_TIMEOUT_MS: i64 = 1_800_000;

/// After a final rejection a call may still be tried again with the same Call-ID (401, 407, 422,
/// 488, another branch of a fork); without that it ends as `rejected`, at the rejection.
pub const RETRY_WAIT_MS: i64 = 5_000;

/// How long after its BYE a call still takes packets that were captured late: a BYE goes another way
/// than the sound before it. It is shorter than the hold of the timeline, so that no slot beyond the
/// BYE is ever written.
pub const END_GRACE_MS: i64 = 200;

/// Legs (Call-IDs) of one conversation that are recorded as one call; what comes beyond is a call of
/// its own.
pub const LEGS_PER_CONVERSATION_MAX: usize = 16;

/// SSRCs that the SDP of one call announces (`a=ssrc`); more are not used to find its media.
pub const SSRCS_PER_CALL_MAX: usize = 64;

/// Changes of who speaks that are told of one call.
pub const SPEAKERS_PER_CALL_MAX: usize = 64;

/// Conversations of one caller's number among which a B2BUA's leg may find its own; with more none is
/// joined by its way.
pub const SAME_CALLER_MAX: usize = 64;

/// REFERs whose calls are awaited; the oldest goes.
pub const REFERRALS_MAX: usize = 1_024;

/// Bytes of a Session-ID or of the operator's header by which legs are joined.
pub const JOIN_KEY_BYTES_MAX: usize = 256;

/// How long after a REFER the call that it asks for may come: somebody may have to confirm it.
pub const REFERRAL_WAIT_MS: i64 = 60_000;

/// How long a call whose party was asked to call somebody else goes on after its last BYE: the new
/// INVITE is sent at once, and the tap may see it later than the BYE.
pub const TRANSFER_WAIT_MS: i64 = 5_000;

/// How long an ended call's Call-ID is remembered: retransmissions go on for 64 × T1 = 32 s (RFC
/// 3261 §17.1.1.2) and must not open the call again.
pub const ENDED_CALL_MS: i64 = 33_000;

/// How long a flow of an ended call is remembered, so that a late packet is not another call's.
pub const ENDED_FLOW_MS: i64 = 5_000;

/// Records wait at most this long for their commit, by default (`--commit-interval`).
pub const COMMIT_INTERVAL_MS: u64 = 1_000;

/// Bytes of a segment file, preallocated, by default.
pub const SEGMENT_BYTES: u64 = 256 << 20;

/// Bytes of one record's body.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes that wait for a commit; an append beyond it commits what waits first.
pub const COMMIT_BYTES_MAX: usize = 64 << 20;

/// Records of one segment: its table in memory stays below 100 MiB; beyond it a new segment begins.
pub const SEGMENT_RECORDS_MAX: usize = 1 << 20;

/// Calls whose index rows wait while SQLite refuses them; beyond it they are dropped, and the next
/// opening of the archive reads them from the segments again.
pub const INDEX_PENDING_MAX: usize = 2 * CALLS_MAX;

/// Bytes of the largest key slot; `init` and `recipients add` refuse recipients whose wrapped keys
/// do not fit.
pub const KEY_SLOT_BYTES_MAX: usize = 16 << 10;

/// Recipients of one archive; more are refused by `init` and `recipients add`.
pub const RECIPIENTS_MAX: usize = 64;

/// A segment with records is sealed at this age, so that little stands unsigned on a quiet line.
pub const SEGMENT_AGE_MS_MAX: u64 = 3_600_000;

/// Bytes of the name of a signing key, so that a signed checkpoint stays below its limit.
pub const KEY_NAME_BYTES_MAX: usize = 128;

/// Bytes of the text of a checkpoint, and of a checkpoint signed by one key; a longer one is
/// refused.
pub const CHECKPOINT_BYTES_MAX: usize = 1_024;

/// Bytes of a signed note, with the signatures of others; longer ones are refused unread.
pub const NOTE_BYTES_MAX: usize = 128 << 10;

/// Signatures read of one signed note, as Go's reader has it (C2SP signed-note asks for 16); more
/// are refused.
pub const NOTE_SIGNATURES_MAX: usize = 100;

/// Bytes of the reason for an erasure or a legal hold; longer ones are refused.
pub const TOMBSTONE_REASON_BYTES_MAX: usize = 256;

/// Bytes of one line of `tombstones`: the signature, a reason of escaped characters and the rest.
pub const TOMBSTONE_LINE_BYTES_MAX: usize = 2_048;

/// Bytes of the file `tombstones`, read whole: about two million erased calls; a longer one is
/// refused.
pub const TOMBSTONES_BYTES_MAX: usize = 1 << 30;

/// Bytes of an answer of a timestamping service (they have under 10 kB); a longer one is refused.
pub const TIMESTAMP_BYTES_MAX: usize = 64 << 10;

/// A timestamping service that has not answered whole after this is given up.
pub const TIMESTAMP_TIMEOUT_MS: u64 = 10_000;

/// Bytes of one frame in a capture file or ring: libpcap's own ceiling (`MAXIMUM_SNAPLEN`). A file
/// that claims more is damaged, and reading it ends there.
pub const CAPTURE_FRAME_BYTES_MAX: usize = 256 << 10;

/// Bytes read ahead of a capture.
pub const CAPTURE_READ_AHEAD_BYTES: usize = 512 << 10;

/// Capture files merged in one replay; more are refused as wrong usage.
pub const CAPTURE_FILES_MAX: usize = 4_096;

/// Capture files held open while they wait for their turn in a merge; beyond it a file is closed
/// after its first frame was seen, and opened again when that frame's time has come. Rotated
/// captures do not overlap, so a thousand of them need the memory of two.
pub const CAPTURE_FILES_OPEN: usize = 16;

/// Interfaces that one section of a pcapng file describes; a file with more is damaged.
pub const CAPTURE_INTERFACES_MAX: usize = 65_536;

/// Bytes of one pcapng interface description that are read; options beyond them are ignored.
pub const CAPTURE_DESCRIPTION_BYTES_MAX: usize = 64 << 10;

/// Bytes of one pcapng block of TLS secrets that are read; lines beyond them are ignored.
pub const CAPTURE_SECRETS_BYTES_MAX: usize = 256 << 10;

/// Connections over which agents send HEP at once; more are closed.
pub const HEP_CONNECTIONS_MAX: usize = 64;

/// An agent's clock that is farther from ours than this is not believed: the arrival is the time then.
pub const HEP_CLOCK_MS_MAX: i64 = 30_000;

/// Frames that one poll of capture files hands over at most.
pub const CAPTURE_BATCH_FRAMES: usize = 1_024;

/// Base-2 logarithm of the largest zstd window: 128 MiB, what `zstd --long` makes.
pub const CAPTURE_ZSTD_WINDOW_LOG_MAX: u32 = 27;

const _: () = assert!(BLOCK_BYTES > 2 * 1_600, "a block holds several full-size packets");
const _: () = assert!(FRAGMENT_BYTES_MAX >= 4 * DATAGRAM_BYTES_MAX);
const _: () = assert!(TCP_PARKED_BYTES_MAX >= 4 * TCP_GAP_BYTES_MAX);
const _: () = assert!(TLS_WAITING_ALL_BYTES_MAX >= 4 * TLS_WAITING_BYTES_MAX);
const _: () = assert!(TCP_OPENINGS_PARKED_BYTES_MAX >= 4 * TCP_OPENING_BYTES_MAX);
const _: () = assert!(SIP_MESSAGE_BYTES_MAX > DATAGRAM_BYTES_MAX);
const _: () = assert!(BLOCK_AGE_MS_MAX * 2 <= 1_000, "half the commit interval");
const _: () = assert!(DUPLICATE_SLOTS.is_power_of_two());
const _: () = assert!(RECORD_BYTES_MAX > BLOCK_BYTES * CALL_QUEUE_BLOCKS);
const _: () = assert!(COMMIT_BYTES_MAX > RECORD_BYTES_MAX);
const _: () = assert!(CAPTURE_READ_AHEAD_BYTES >= CAPTURE_FRAME_BYTES_MAX + 4_096);
const _: () = assert!(CAPTURE_READ_AHEAD_BYTES >= CAPTURE_DESCRIPTION_BYTES_MAX);
const _: () = assert!(CAPTURE_READ_AHEAD_BYTES >= CAPTURE_SECRETS_BYTES_MAX);
