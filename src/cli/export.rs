//! `callspan export`: one call to a file that other programs open.
//!
//! Purpose: Ogg Opus and WAV to listen to, a capture file to look into.
//! Invariants: second 0 of the sound is `recording.started_at`, caller left, callee right; the same
//! call gives the same bytes; the file has its name only when it is complete.
//! Non-goals: mixing both parties into one channel.
//! Sources: RFC 7845 §4.2 and §4.4 (pre-skip and end trimming), §5.2 (comments).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::export_audio::{Extent, SlotPair, Whole};
use super::key_files::load_identities;
use super::options::{OPUS_COMPLEXITY, REORDER_WINDOW_MS};
use super::outfile::{OutFile, write_failure};
use super::output::{self, Failure};
use super::store::{FoundCall, Store, archive_failure, slots_from};
use super::{Exit, ExportFormat, ExportJob, export_pcap, people};
use crate::archive::{ArchiveError, OwnedRecord, RecordKind};
use crate::base::CallId;
use crate::call::summary::CallSummary;
use crate::codec::opus::{EncoderSettings, PACKET_SAMPLES_MAX};
use crate::codec::wav::WavWriter;
use crate::codec::{
    OggOpusHead, OggOpusWriter, OpusBandwidth, OpusDecoder, packet_info, silence_packet,
};

use crate::media::{self, Band, MediaSettings, StartAt, VoiceSettings};
use crate::work::render::render_raw;

/// Delay of what the encoder makes, in samples at 48 kHz: 6.5 ms at every rate (a test asks it).
const PRE_SKIP: u16 = 312;
/// Samples a second of the WAV file: what the decoder gives, so that nothing is resampled.
const WAV_RATE_HZ: u32 = 48_000;
/// Samples of a slot at 48 kHz.
const SLOT_SAMPLES: u32 = 960;

/// Exports one call.
pub fn export(job: &ExportJob) -> Result<Exit, Failure> {
    let mut store = Store::open(&job.archive)?;
    if let Some(identity) = &job.identity {
        store.unlock(load_identities(identity)?);
    }
    let call = store.find(&job.call)?;
    if call.summary.recording.state == "erased" {
        return Err(archive_failure(&ArchiveError::Erased { call: call.id }));
    }
    match job.format {
        ExportFormat::Opus | ExportFormat::Wav => export_audio(&store, &call, job),
        ExportFormat::Pcap => export_pcap(&store, &call, job),
    }
}

fn export_audio(store: &Store, call: &FoundCall, job: &ExportJob) -> Result<Exit, Failure> {
    let slots = slots_of(store, call)?;
    if slots.is_empty() {
        let state = call.summary.recording.state.as_str();
        let instead = match state {
            "raw" => "cannot be decoded here; `--format pcap` has its packets, and",
            _ => "has no recording to export;",
        };
        return Err(Failure::failed(format_args!(
            "call {} {instead} `callspan show {}` says more (its state is `{state}`)",
            call.id, call.id
        )));
    }
    let extent = Extent::new(seconds_of(&call.summary, &slots), PRE_SKIP);
    let sound = Sound::new(slots, extent)?;
    let bad = sound.bad;
    let out = OutFile::create(&job.output, job.overwrite)?;
    let out = match job.format {
        ExportFormat::Wav => write_wav(out, &job.output, sound)?,
        _ => write_opus(out, &job.output, call.id, &call.summary, sound)?,
    };
    out.finish()?;
    if bad == 0 {
        return Ok(Exit::Done);
    }
    output::complain(&format!(
        "{bad} archived packets are no Opus of 20 ms and are silent in the file; report this as a bug"
    ));
    Ok(Exit::Lost)
}

/// Slots of a call: those archived, those made of raw RTP, and where packets were put aside under
/// load and never transcoded, what can be made of these.
fn slots_of(store: &Store, call: &FoundCall) -> Result<Vec<SlotPair>, Failure> {
    let slots = store.slots(call.id)?;
    let kept = match call.summary.recording.state.as_str() {
        "raw" => store.raw(call.id)?,
        _ => store.spilled(call.id)?,
    };
    Ok(all_slots(&call.summary, slots, &kept))
}

/// Archived slots, and those that only raw packets in `kept` have.
fn all_slots(call: &CallSummary, mut slots: Vec<SlotPair>, kept: &[Vec<u8>]) -> Vec<SlotPair> {
    if !kept.is_empty() {
        let have: BTreeSet<u64> = slots.iter().map(|slot| slot.index).collect();
        let rendered = render_raw(kept, render_settings(call));
        let missing = rendered.slots.into_iter().filter(|slot| !have.contains(&u64::from(slot.0)));
        slots.extend(missing.map(|(index, caller, callee)| SlotPair {
            index: u64::from(index),
            packets: [caller, callee],
        }));
        slots.sort_by_key(|slot| slot.index);
    }
    slots
}

/// The Ogg file of a call's opened records, as `export` writes it; `None` when they hold no sound.
pub fn opus_of(
    id: CallId,
    call: &CallSummary,
    records: &[OwnedRecord],
) -> Result<Option<Vec<u8>>, Failure> {
    let bodies = |kinds: &[RecordKind]| -> Vec<Vec<u8>> {
        let wanted = records.iter().filter(|record| kinds.contains(&record.kind));
        wanted.map(|record| record.body.clone()).collect()
    };
    let kept = match call.recording.state.as_str() {
        "raw" => bodies(&[RecordKind::Raw, RecordKind::Spill]),
        _ => bodies(&[RecordKind::Spill]),
    };
    let slots = slots_from(id, &bodies(&[RecordKind::Audio]))?;
    let slots = all_slots(call, slots, &kept);
    if slots.is_empty() {
        return Ok(None);
    }
    let extent = Extent::new(seconds_of(call, &slots), PRE_SKIP);
    let sound = Sound::new(slots, extent)?;
    write_opus(Vec::new(), Path::new("recording.opus"), id, call, sound).map(Some)
}

/// As the call would have been recorded, had it been transcoded at once.
fn render_settings(call: &CallSummary) -> MediaSettings {
    let early = match (&call.recording.started_at, &call.answered_at) {
        (Some(started), Some(answered)) => started < answered,
        (started, answered) => started.is_some() && answered.is_none(),
    };
    MediaSettings {
        start: if early { StartAt::Media } else { StartAt::Answer },
        store: media::Store::Opus,
        band: Band::Auto,
        reorder_window_ms: REORDER_WINDOW_MS,
        voice: VoiceSettings { bitrate: None, complexity: OPUS_COMPLEXITY },
    }
}

/// How long the recording is; of a call without a final summary, as long as what is committed.
fn seconds_of(call: &CallSummary, slots: &[SlotPair]) -> f64 {
    if call.recording.seconds == 0.0 {
        slots.last().map_or(0.0, |last| (last.index + 1) as f64 * 0.02)
    } else {
        call.recording.seconds
    }
}

/// What is to be heard: whole slots, ready for a container.
struct Sound {
    slots: Vec<SlotPair>,
    extent: Extent,
    rate_hz: u32,
    silence: Vec<u8>,
    bad: u64,
}

impl Sound {
    /// Takes out what is no Opus packet of 20 ms, and finds the band of the rest.
    fn new(mut slots: Vec<SlotPair>, extent: Extent) -> Result<Self, Failure> {
        let (mut bad, mut rate_hz) = (0_u64, 0);
        for packet in slots.iter_mut().flat_map(|slot| &mut slot.packets) {
            match packet_info(packet) {
                Some(info) if info.samples_48k == SLOT_SAMPLES => {
                    rate_hz = rate_hz.max(rate_of(info.bandwidth));
                }
                _ if packet.is_empty() => {}
                _ => {
                    bad = bad.saturating_add(1);
                    packet.clear();
                }
            }
        }
        let rate_hz = if rate_hz == 0 { 8_000 } else { rate_hz };
        let settings = EncoderSettings { sample_rate_hz: rate_hz, bitrate: 16_000, complexity: 0 };
        let silence = silence_packet(settings)
            .map_err(|error| Failure::failed(format_args!("libopus fails: {error}")))?;
        Ok(Self { slots, extent, rate_hz, silence, bad })
    }

    fn whole(self) -> impl Iterator<Item = Result<[Vec<u8>; 2], Failure>> {
        let slots = self.extent.slots();
        Whole::new(self.slots.into_iter().map(Ok), slots, self.silence)
    }
}

const fn rate_of(bandwidth: OpusBandwidth) -> u32 {
    match bandwidth {
        OpusBandwidth::Narrow => 8_000,
        OpusBandwidth::Medium => 12_000,
        OpusBandwidth::Wide => 16_000,
        OpusBandwidth::SuperWide => 24_000,
        OpusBandwidth::Full => 48_000,
    }
}

fn write_opus<W: Write>(
    out: W,
    path: &Path,
    id: CallId,
    call: &CallSummary,
    sound: Sound,
) -> Result<W, Failure> {
    let failed = |error| write_failure(path, &error);
    let tags = tags(call);
    let comments: Vec<(&str, &str)> =
        tags.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let head = OggOpusHead {
        serial: id.ogg_serial(),
        pre_skip: sound.extent.pre_skip,
        input_sample_rate: sound.rate_hz,
        comments: &comments,
    };
    let samples = sound.extent.samples;
    let mut writer = OggOpusWriter::new(out, head).map_err(failed)?;
    for packets in sound.whole() {
        let [caller, callee] = packets?;
        writer.push_20ms(&caller, &callee).map_err(failed)?;
    }
    writer.finish(samples).map_err(failed)
}

/// Comments of the file, by the names that players show where there is one.
fn tags(call: &CallSummary) -> Vec<(&'static str, String)> {
    let title = format!("{} → {}", people::party(&call.caller), people::party(&call.callee));
    let mut tags = vec![
        ("TITLE", title),
        ("DATE", call.started_at.get(..10).unwrap_or(&call.started_at).to_owned()),
        ("CALLER", people::party_in_full(&call.caller)),
        ("CALLEE", people::party_in_full(&call.callee)),
        ("CALLSPAN_CALL_ID", call.id.clone()),
        ("CALLSPAN_STARTED_AT", call.started_at.clone()),
    ];
    for (name, time) in [
        ("CALLSPAN_ANSWERED_AT", &call.answered_at),
        ("CALLSPAN_ENDED_AT", &call.ended_at),
        ("CALLSPAN_RECORDING_STARTED_AT", &call.recording.started_at),
    ] {
        tags.extend(time.clone().map(|time| (name, time)));
    }
    tags.extend(call.sip_call_ids.iter().map(|id| ("SIP_CALL_ID", id.clone())));
    tags
}

fn write_wav(out: OutFile, path: &Path, sound: Sound) -> Result<OutFile, Failure> {
    let failed = |error| write_failure(path, &error);
    let samples = sound.extent.samples;
    let mut writer = WavWriter::new(out, WAV_RATE_HZ, samples).map_err(failed)?;
    let (mut to_skip, mut left) = (usize::from(sound.extent.pre_skip), samples);
    let mut decoders = [decoder()?, decoder()?];
    let mut heard = [vec![0; PACKET_SAMPLES_MAX], vec![0; PACKET_SAMPLES_MAX]];
    for packets in sound.whole() {
        for ((decoder, packet), pcm) in decoders.iter_mut().zip(packets?).zip(&mut heard) {
            // What libopus refuses although its header is right is silence, as in a player.
            if decoder.decode(&packet, pcm).is_err() {
                pcm.fill(0);
            }
        }
        let slot = SLOT_SAMPLES as usize;
        let from = to_skip.min(slot);
        to_skip -= from;
        let until = from + usize::try_from(left).unwrap_or(slot).min(slot - from);
        left -= (until - from) as u64;
        let [caller, callee] = &heard;
        writer.write(&caller[from..until], &callee[from..until]).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

fn decoder() -> Result<OpusDecoder, Failure> {
    OpusDecoder::new().map_err(|error| Failure::failed(format_args!("libopus fails: {error}")))
}

fn export_pcap(store: &Store, call: &FoundCall, job: &ExportJob) -> Result<Exit, Failure> {
    let (sip, raw) = (store.sip(call.id)?, store.raw(call.id)?);
    let out = OutFile::create(&job.output, job.overwrite)?;
    let counts = export_pcap::write(out.name_for_libraries(), &sip, raw.into_iter().map(Ok))?;
    out.check_length(counts.file_bytes)?;
    out.finish()?;
    output::remark(&format!(
        "{} SIP messages and {} RTP and RTCP packets written, in Ethernet frames made up around them",
        counts.sip, counts.media
    ));
    if counts.media == 0 {
        output::remark(match call.summary.recording.state.as_str() {
            "stored" => {
                "its RTP is not in the file: the call was stored as Opus; record with --store raw to \
                 keep RTP"
            }
            _ => "no RTP was kept of this call; record with --store raw to keep RTP",
        });
    }
    if counts.left_out == 0 {
        return Ok(Exit::Done);
    }
    output::complain(&format!("{} messages fit in no frame and are left out", counts.left_out));
    Ok(Exit::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::OpusVoiceEncoder;

    #[test]
    fn the_pre_skip_is_the_delay_of_the_encoder_at_every_rate() {
        for sample_rate_hz in [8_000, 16_000, 24_000, 48_000] {
            let settings = EncoderSettings { sample_rate_hz, bitrate: 16_000, complexity: 0 };
            let encoder = OpusVoiceEncoder::new(settings).expect("an encoder");
            assert_eq!(encoder.lookahead_48k(), u32::from(PRE_SKIP), "{sample_rate_hz} Hz");
        }
    }

    #[test]
    fn a_packet_of_another_length_is_silent_counted_and_ends_no_export() {
        let slot = SlotPair { index: 0, packets: [vec![0x00, 1, 2], Vec::new()] };
        let sound = Sound::new(vec![slot], Extent::new(0.01, PRE_SKIP)).expect("libopus");
        assert_eq!((sound.bad, sound.rate_hz), (1, 8_000));
        let silence = sound.silence.clone();
        let slots: Vec<_> = sound.whole().map(|slot| slot.expect("whole")).collect();
        assert_eq!(slots, [[silence.clone(), silence]]);
    }
}
