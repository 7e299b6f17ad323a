//! `callspan show`: one call in full.
//!
//! Purpose: the ladder, the streams and what is missing, for people; one object for programs.
//! Invariants: with `--json` the call's own object is printed as it is archived, with `sip` added.
//! Non-goals: sound (see `export`).
//! Sources: none.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::export_pcap::SipMessage;
use super::key_files::ArchivePlace;
use super::ladder::{self, LadderMessage, MessageHead};
use super::output::{self, Failure, printable};
use super::store::{FoundCall, Store};
use super::table::{Align, Table};
use super::{Exit, OutputFormat, people};
use crate::base::PacketTime;
use crate::base::rfc3339::format_utc;
use crate::call::summary::CallSummary;

/// Gaps listed before the rest is only counted.
const GAPS_SHOWN: usize = 40;

/// Shows one call.
pub fn show(name: &str, place: &ArchivePlace, json: OutputFormat) -> Result<Exit, Failure> {
    let store = Store::open(place)?;
    let call = store.find(name)?;
    let messages: Vec<LadderMessage> = store.sip(call.id)?.iter().map(on_ladder).collect();
    let zero = PacketTime::from_ns(call.started_ns);
    match json {
        OutputFormat::JsonLines => {
            let object = with_messages(&call, &messages_json(&messages, zero))?;
            output::to_stdout(|out| writeln!(out, "{object}"))?;
        }
        OutputFormat::Text => {
            output::to_stdout(|out| print_text(out, &call.summary, &messages, zero))?;
        }
    }
    Ok(Exit::Done)
}

fn on_ladder(message: &SipMessage) -> LadderMessage {
    LadderMessage {
        time: message.time,
        source: message.source,
        destination: message.destination,
        protocol: message.protocol,
        head: MessageHead::read(&message.bytes),
    }
}

/// The archived object with `sip` as its last member: spliced in as text, so that the call's own
/// members stay as they are archived, in their order.
fn with_messages(call: &FoundCall, messages: &Value) -> Result<String, Failure> {
    let open = call.json.trim_end().strip_suffix('}').ok_or_else(|| {
        Failure::failed(format_args!("call {}: its summary is no JSON object", call.id))
    })?;
    Ok(format!("{open},\"sip\":{messages}}}"))
}

/// The messages as JSON, times counted from the first packet of the call.
fn messages_json(messages: &[LadderMessage], zero: PacketTime) -> Value {
    let one = |message: &LadderMessage| {
        json!({
            "at_s": ladder::seconds_since(message.time, zero),
            "time": format_utc(message.time.ns()),
            "source": message.source.to_string(),
            "destination": message.destination.to_string(),
            "protocol": message.protocol.label(),
            "start_line": message.head.start_line,
            "call_id": message.head.call_id,
            "cseq": message.head.cseq,
        })
    };
    messages.iter().map(one).collect()
}

/// Everything about a call, for people.
fn print_text(
    out: &mut dyn Write,
    call: &CallSummary,
    messages: &[LadderMessage],
    zero: PacketTime,
) -> io::Result<()> {
    print_head(out, call)?;
    if !messages.is_empty() {
        writeln!(out, "\nSIP, in seconds from the call's first packet")?;
        ladder::draw(out, messages, zero)?;
    }
    print_legs(out, call)?;
    print_streams(out, call)?;
    print_far_ends(out, call)?;
    print_gaps(out, call)?;
    for channel in ["caller", "callee"] {
        let digits: Vec<_> = call.dtmf.iter().filter(|digit| digit.channel == channel).collect();
        if let Some(first) = digits.first() {
            let keys: Vec<_> = digits.iter().map(|digit| printable(&digit.digit)).collect();
            let from = format!("from second {:.2} on", first.at_s);
            writeln!(out, "\nDTMF of the {channel}, {from}: {}", keys.join(" "))?;
        }
    }
    if let Some(fax) = &call.fax {
        let how = match (fax.t38, fax.passthrough) {
            (true, true) => "T.38, and in the sound before it",
            (true, false) => "T.38",
            (false, true) => "in the sound (pass-through)",
            (false, false) => "a machine's calling beep",
        };
        writeln!(out, "\nFax, from second {:.2} on: {how}", fax.at_s)?;
    }
    for (position, note) in call.notes.iter().enumerate() {
        let title = if position == 0 { "\nNotes\n" } else { "" };
        writeln!(out, "{title}  {}", printable(note))?;
    }
    Ok(())
}

fn print_head(out: &mut dyn Write, call: &CallSummary) -> io::Result<()> {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| people::UNKNOWN.into());
    let recording = &call.recording;
    let kept = match recording.state.as_str() {
        "none" => "none".to_owned(),
        state => format!(
            "{state}, {:.2} s from {}, {}",
            recording.seconds,
            or_unknown(&recording.started_at),
            people::size(recording.bytes)
        ),
    };
    let status = call.status_code.map_or_else(String::new, |code| format!(", status {code}"));
    let ended = match &call.end_reason {
        Some(reason) => format!("{} ({reason}{status})", or_unknown(&call.ended_at)),
        None => or_unknown(&call.ended_at),
    };
    let heard = match call.verdict.as_str() {
        "both" => "media of both sides seen",
        "caller_only" => "media of the caller only",
        "callee_only" => "media of the callee only",
        _ => "no media seen",
    };
    let why = &call.verdict_why;
    let missing = [("caller", &why.caller), ("callee", &why.callee)];
    let missing = missing.map(|(side, why)| why.as_ref().map(|why| format!("{side}: {why}")));
    let missing: Vec<String> = missing.into_iter().flatten().collect();
    let missing =
        if missing.is_empty() { String::new() } else { format!(" ({})", missing.join(", ")) };
    for (name, value) in [
        ("call", call.id.clone()),
        ("caller", people::party_in_full(&call.caller)),
        ("callee", people::party_in_full(&call.callee)),
        ("state", format!("{}, {heard}{missing}", call.state)),
        ("started", call.started_at.clone()),
        ("answered", or_unknown(&call.answered_at)),
        ("ended", ended),
        ("talked", people::talked(call)),
        ("recording", kept),
        ("Call-ID", call.sip_call_ids.join(", ")),
    ] {
        writeln!(out, "{name:<10}  {}", printable(&value))?;
    }
    if let Some(call) = &call.joined_to {
        writeln!(out, "{:<10}  {}", "part of", printable(call))?;
    }
    Ok(())
}

/// What else belongs to the conversation, and who spoke when.
fn print_legs(out: &mut dyn Write, call: &CallSummary) -> io::Result<()> {
    if !call.legs.is_empty() {
        writeln!(out, "\nFurther legs")?;
    }
    for leg in &call.legs {
        let apart = leg.call.as_ref().map_or_else(String::new, |id| format!(", recorded as {id}"));
        let how = match leg.joined_by.as_str() {
            "session_id" => "same Session-ID",
            "join_header" => "same join header",
            "refer" => "transfer (REFER)",
            "replaces" => "replaces a dialog",
            "path" => "sent on by the same host for the same caller",
            _ => "same media",
        };
        let text = format!("{}  {}  {how}{apart}", leg.joined_at, leg.sip_call_id);
        writeln!(out, "  {}", printable(&text))?;
    }
    if call.speakers.is_empty() {
        return Ok(());
    }
    let mut table =
        Table::new(&[("channel", Align::Left), ("from s", Align::Right), ("who", Align::Left)]);
    for speaker in &call.speakers {
        table.row(&[
            speaker.channel.clone(),
            format!("{:.2}", speaker.at_s),
            printable(&people::party_in_full(&speaker.party)),
        ]);
    }
    writeln!(out, "\nWho speaks")?;
    table.write(out, "  ")
}

fn print_streams(out: &mut dyn Write, call: &CallSummary) -> io::Result<()> {
    if call.streams.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("channel", Align::Left),
        ("codec", Align::Left),
        ("ssrc", Align::Left),
        ("source", Align::Left),
        ("destination", Align::Left),
        ("packets", Align::Right),
        ("lost", Align::Right),
        ("late", Align::Right),
        ("duplicate", Align::Right),
        ("reordered", Align::Right),
        ("jitter ms", Align::Right),
        ("MOS", Align::Right),
    ]);
    for stream in &call.streams {
        table.row(&[
            stream.channel.clone(),
            format!("{}/{}", stream.codec, stream.clock_hz),
            stream.ssrc.clone(),
            stream.source.clone(),
            stream.destination.clone(),
            stream.packets.to_string(),
            stream.lost.to_string(),
            stream.late.to_string(),
            stream.duplicate.to_string(),
            stream.reordered.to_string(),
            format!("{:.1}", stream.jitter_ms),
            stream.mos.map_or_else(|| people::UNKNOWN.into(), |mos| format!("{mos:.2}")),
        ]);
    }
    writeln!(out, "\nStreams, as seen at the tap")?;
    table.write(out, "  ")
}

/// Our figures beside those of the phones: loss that only the receiver has happened behind the tap;
/// loss that only the tap has is the mirror's.
fn print_far_ends(out: &mut dyn Write, call: &CallSummary) -> io::Result<()> {
    let mut table = Table::new(&[
        ("channel", Align::Left),
        ("ssrc", Align::Left),
        ("sent", Align::Right),
        ("at tap", Align::Right),
        ("lost at tap", Align::Right),
        ("lost in all", Align::Right),
        ("worst", Align::Right),
        ("jitter at tap", Align::Right),
        ("there", Align::Right),
        ("round trip ms", Align::Right),
        ("reports", Align::Right),
        ("their MOS", Align::Right),
    ]);
    let mut is_told = false;
    for stream in &call.streams {
        let Some(rtcp) = &stream.rtcp else { continue };
        is_told = true;
        let ms = |value: Option<f64>| people::or_unknown(value.map(|ms| format!("{ms:.1}")));
        let worst = rtcp.fraction_lost_max.map(|share| format!("{:.1} %", share * 100.0));
        table.row(&[
            stream.channel.clone(),
            stream.ssrc.clone(),
            people::or_unknown(rtcp.sent_packets),
            stream.packets.to_string(),
            stream.lost.to_string(),
            people::or_unknown(rtcp.lost),
            people::or_unknown(worst),
            format!("{:.1}", stream.jitter_ms),
            ms(rtcp.jitter_ms),
            ms(rtcp.round_trip_ms),
            rtcp.reports.to_string(),
            ms(rtcp.xr.as_ref().and_then(|xr| xr.mos_lq.or(xr.mos_cq))),
        ]);
    }
    if !is_told {
        return Ok(());
    }
    writeln!(out, "\nThe same streams by the phones' own reports (RTCP)")?;
    table.write(out, "  ")
}

fn print_gaps(out: &mut dyn Write, call: &CallSummary) -> io::Result<()> {
    if call.gaps.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("channel", Align::Left),
        ("at s", Align::Right),
        ("seconds", Align::Right),
        ("reason", Align::Left),
        ("concealed", Align::Right),
    ]);
    for gap in call.gaps.iter().take(GAPS_SHOWN) {
        table.row(&[
            gap.channel.clone(),
            format!("{:.2}", gap.at_s),
            format!("{:.2}", gap.seconds),
            gap.reason.clone(),
            if gap.concealed > 0.0 { format!("{:.2}", gap.concealed) } else { String::new() },
        ]);
    }
    let seconds: f64 = call.gaps.iter().map(|gap| gap.seconds).sum();
    writeln!(out, "\nGaps: {} of {seconds:.2} s in all", call.gaps.len())?;
    table.write(out, "  ")?;
    match call.gaps.len().checked_sub(GAPS_SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "  and {more} more; --json lists them all"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ladder::MessageHead;
    use super::super::people::tests::call;
    use super::*;
    use crate::base::{Endpoint, Protocol};

    fn invite() -> LadderMessage {
        LadderMessage {
            time: PacketTime::from_ns(1_795_489_056_223_456_789),
            source: Endpoint::v4([10, 0, 0, 1], 5_060),
            destination: Endpoint::v4([10, 0, 0, 2], 5_060),
            protocol: Protocol::Tcp,
            head: MessageHead::read(
                b"INVITE sip:b@x SIP/2.0\r\nCall-ID: abc@a\r\nCSeq: 7 INVITE\r\n",
            ),
        }
    }

    #[test]
    fn people_see_parties_ladder_streams_gaps_digits_and_notes() {
        let zero = PacketTime::from_ns(1_795_489_056_123_456_789);
        let mut text = Vec::new();
        print_text(&mut text, &call(), &[invite()], zero).expect("memory");
        let text = String::from_utf8(text).expect("text");
        for part in [
            "caller      \"Alice\" 100 <sip:100@a.example>\n",
            "state       ended, media of both sides seen\n",
            "ended       2026-11-24T04:00:00.500000+00:00 (bye, status 200)\n",
            "recording   stored, 3742.50 s from 2026-11-24T02:57:38.000000+00:00, 14 MB\n",
            "    0.100   │─────────── INVITE ",
            "caller   PCMA/8000  0x0000002a  10.0.0.1:4000  10.0.0.2:4002      500     3",
            "\nThe same streams by the phones' own reports (RTCP)\n",
            "  caller   0x0000002a   503     500            3            7  12.5 %            1.2    2.5",
            "\nGaps: 1 of 0.06 s in all\n",
            "\nDTMF of the caller, from second 3.21 on: 5 #\n",
            "\nNotes\n  a note\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn messages_have_the_fields_of_the_contract() {
        let zero = PacketTime::from_ns(1_795_489_056_123_456_789);
        let json = messages_json(&[invite()], zero);
        assert_eq!(
            json,
            json!([{"at_s": 0.1, "time": "2026-11-24T02:57:36.223456+00:00",
                "source": "10.0.0.1:5060", "destination": "10.0.0.2:5060", "protocol": "tcp",
                "start_line": "INVITE sip:b@x SIP/2.0", "call_id": "abc@a", "cseq": "7 INVITE"}])
        );
    }

    #[test]
    fn hundreds_of_gaps_are_counted_not_all_listed() {
        let mut call = call();
        call.gaps = vec![call.gaps[0].clone(); 500];
        let mut text = Vec::new();
        print_gaps(&mut text, &call).expect("memory");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("Gaps: 500 of 30.00 s in all"), "{text}");
        assert!(text.ends_with("and 460 more; --json lists them all\n"), "{text}");
    }
}
