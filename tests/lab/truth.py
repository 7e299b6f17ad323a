#!/usr/bin/env python3
"""Decodes what the two sides of a captured call said, without callspan: the truth to score against.

    truth.py FILE.pcap OUT.wav [--start answer|media] [--call-id ID] [--flow CHANNEL FROM TO]… [--keylog FILE]

OUT.wav has two channels, caller left, callee right, 16 bit. Second 0 is the capture time of the first
2xx to an INVITE (or, with --start media, of the first RTP packet), so it lines up with a recording
as it is. With --flow, what one host sends to another is on that channel (`caller 10.99.0.1 10.99.0.2`),
and what no --flow names is on none: for transfers. Each packet's samples stand where its RTP timestamp puts them; RTP time is tied to capture
time by the fastest packets around it (a sliding minimum over four seconds, so that a drifting clock is
followed and jitter is not). What never came is silence. Prints one JSON object a side.

tshark takes the capture apart, FFmpeg and opus-tools decode. One call a file: PCMA, PCMU, G722, L16,
GSM, G726 (AAL2 packing, as baresip sends it), AMR and AMR-WB (octet-aligned), G.729, G.723.1, Speex, Opus; no SRTP. Needs numpy.
"""
import argparse
import json
import struct
import subprocess
import sys
import tempfile

import numpy as np

STATIC = {0: ("PCMU", 8000), 3: ("GSM", 8000), 4: ("G723", 8000), 8: ("PCMA", 8000), 18: ("G729", 8000), 9: ("G722", 8000), 10: ("L16", 44100), 11: ("L16", 44100)}
ANCHOR_S = 2.0  # half the sliding window
OUT_RATE = 48_000


def tshark(path, wanted, *fields, keylog=None):
    command = ["tshark", "-n", "-r", path, "-o", "rtp.heuristic_rtp:TRUE", "-Y", wanted, "-T", "fields"]
    command += ["-o", f"tls.keylog_file:{keylog}"] if keylog else []
    for field in fields:
        command += ["-e", field]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return [line.split("\t") for line in out.splitlines()]


class Signalling:
    """What SIP says of the call: when it was answered, which address is whose, which payload type is what."""

    def __init__(self, path, call_id, keylog):
        only = f' && sip.Call-ID == "{call_id}"' if call_id else ""
        self.answered = self.caller_host = None
        self.media = {}    # (host, port) that receives: side that listens there
        self.formats = [dict(STATIC), dict(STATIC)]  # by the side that receives
        rows = tshark(path, f"sip && !icmp{only}", "frame.time_epoch", "ip.src", "ipv6.src", "sip.Method", "sip.Status-Code",
                      "sip.CSeq.method", "sdp.connection_info.address", "sdp.media.port", "sdp.media_attr", keylog=keylog)
        for when, source, source6, method, status, of, host, port, attributes in rows:
            source = source or source6
            if self.caller_host is None and method == "INVITE":
                self.caller_host = source
            if self.answered is None and of == "INVITE" and status.startswith("2"):
                self.answered = float(when)
            if host and port:
                side = 0 if source == self.caller_host else 1
                self.media[host.split(",")[0], int(port.split(",")[0])] = side
                for attribute in attributes.split(","):
                    if attribute.startswith("rtpmap:"):
                        number, name = attribute[7:].split()[:2]
                        encoding, clock = name.split("/")[:2]
                        self.formats[side][int(number)] = (encoding.upper(), int(clock))


class Packet:
    """One RTP packet that carries audio."""

    def __init__(self, when, codec, clock, sequence, timestamp, payload):
        self.when, self.codec, self.clock, self.payload = when, codec, clock, payload
        self.sequence, self.timestamp = sequence, timestamp  # extended, both


def extend(value, bits, last):
    """The number nearest to `last` whose low bits are `value`."""
    half, full = 1 << bits - 1, 1 << bits
    return last + (value - last + half) % full - half


def packets_of(path, signalling, flows):
    """Streams by (side that speaks, SSRC): packets by extended sequence number."""
    streams = {}
    rows = tshark(path, "rtp && !icmp", "frame.time_epoch", "ip.src", "ip.dst", "ipv6.dst", "udp.dstport", "rtp.ssrc", "rtp.p_type",
                  "rtp.seq", "rtp.timestamp", "rtp.payload")
    for when, source, host, host6, port, ssrc, kind, sequence, timestamp, payload in rows:
        listener = signalling.media.get((host or host6, int(port)))
        if listener is None or not payload:
            continue
        codec, clock = signalling.formats[listener].get(int(kind), ("?", 0))
        if codec not in DECODERS:
            continue
        side = flows.get((source, host)) if flows else 1 - listener
        if side is None:
            continue
        packets = streams.setdefault((side, ssrc), {})
        last = next(reversed(packets.values())) if packets else None
        extended = extend(int(sequence), 16, last.sequence if last else 65_536 + int(sequence))
        media_time = extend(int(timestamp), 32, last.timestamp if last else (1 << 32) + int(timestamp))
        packets.setdefault(extended, Packet(float(when), codec, clock, extended, media_time, bytes.fromhex(payload.replace(":", ""))))
    return streams


def raw(arguments, rate):
    def decode(packets):
        out = subprocess.run(["ffmpeg", "-v", "error", *arguments, "-i", "-", "-f", "s16le", "-ac", "1", "-"],
                             input=b"".join(packet.payload for packet in packets), check=True, capture_output=True).stdout
        return np.frombuffer(out, "<i2"), rate or packets[0].clock
    return decode


def pcm(packets):
    return np.frombuffer(b"".join(packet.payload for packet in packets), ">i2"), packets[0].clock


def opus_samples(payload):
    """Samples at 48 kHz in an Opus packet (RFC 6716, section 3.1)."""
    config, code = payload[0] >> 3, payload[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    return frame * (1 if code == 0 else 2 if code < 3 else payload[1] & 63)


CRC = [0] * 256
for index in range(256):
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    CRC[index] = value


def page(flags, granule, number, body):
    """An Ogg page that holds one packet (RFC 3533, section 6)."""
    lacing = b"\xff" * (len(body) // 255) + bytes([len(body) % 255])
    data = bytearray(struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 7, number, 0, len(lacing)) + lacing + body)
    check = 0
    for byte in data:
        check = (check << 8 & 0xFFFFFFFF) ^ CRC[check >> 24 ^ byte]
    data[22:26] = struct.pack("<I", check)
    return bytes(data)


def opus(packets):
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 0, 48000, 0, 0)
    pages = [page(2, 0, 0, head), page(0, 0, 1, b"OpusTags" + struct.pack("<I5sI", 5, b"truth", 0))]
    granule = 0
    for number, packet in enumerate(packets):
        granule += opus_samples(packet.payload)
        pages.append(page(4 if number + 1 == len(packets) else 0, granule, number + 2, packet.payload))
    with tempfile.NamedTemporaryFile(suffix=".opus") as ogg, tempfile.NamedTemporaryFile(suffix=".raw") as out:
        ogg.write(b"".join(pages))
        ogg.flush()
        subprocess.run(["opusdec", "--quiet", "--no-dither", "--rate", "48000", "--force-stereo", ogg.name, out.name], check=True, capture_output=True)
        data = open(out.name, "rb").read()
    return np.frombuffer(data, "<i2").reshape(-1, 2)[:, 0], 48_000


def frames_of(payload):
    """How many AMR frames an octet-aligned payload has (RFC 4867, section 4.4): table entries up to the one without F."""
    return next(at for at in range(1, len(payload)) if not payload[at] & 0x80)


def amr(magic):
    """Octet-aligned payloads as a file of RFC 4867, section 5: every frame with its table entry in front."""
    def decode(packets):
        stored = bytearray(magic)
        for packet in packets:
            entries = packet.payload[1:1 + frames_of(packet.payload)]
            if len(entries) != 1:
                sys.exit("truth: several AMR frames in a packet are not done here")
            stored += bytes([entries[0] & 0x7C]) + packet.payload[2:]
        out = subprocess.run(["ffmpeg", "-v", "error", "-f", "amr", "-i", "-", "-f", "s16le", "-ac", "1", "-"],
                             input=bytes(stored), check=True, capture_output=True).stdout
        return np.frombuffer(out, "<i2"), packets[0].clock
    return decode


def g729(packets):
    """FFmpeg's demuxer reads frames of 10 octets of a stream at 8 kbit/s."""
    out = subprocess.run(["ffmpeg", "-v", "error", "-f", "g729", "-i", "-", "-f", "s16le", "-ac", "1", "-"],
                         input=b"".join(packet.payload for packet in packets), check=True, capture_output=True).stdout
    return np.frombuffer(out, "<i2"), 8000


def speex(packets):
    """Narrow-band Speex, by libspeex from an Ogg of its own making (Speex manual, section 7.3)."""
    head = struct.pack("<8s20sIIIIIiIIIIIII", b"Speex   ", b"truth", 1, 80, 8000, 0, 4, 1, 0, 160, 0, 1, 0, 0, 0)
    pages = [page(2, 0, 0, head), page(0, 0, 1, struct.pack("<I5sI", 5, b"truth", 0))]
    pages += [page(4 if number + 1 == len(packets) else 0, 160 * (number + 1), number + 2, packet.payload) for number, packet in enumerate(packets)]
    out = subprocess.run(["ffmpeg", "-v", "error", "-c:a", "libspeex", "-f", "ogg", "-i", "-", "-f", "s16le", "-ac", "1", "-"],
                         input=b"".join(pages), check=True, capture_output=True).stdout
    return np.frombuffer(out, "<i2"), 8000


def samples_of(packet, rate):
    """Samples that a packet decodes to."""
    size = len(packet.payload)
    if packet.codec == "OPUS":
        return opus_samples(packet.payload)
    if packet.codec.startswith("AMR"):
        return rate // 50 * frames_of(packet.payload)
    if packet.codec.startswith("G726"):
        return size * 8 // (int(packet.codec[-2:]) // 8)
    return {"PCMA": size, "PCMU": size, "G722": 2 * size, "L16": size // 2, "GSM": size // 33 * 160,
            "G729": size // 10 * 80, "G723": size // 24 * 240, "SPEEX": 160}[packet.codec]


DECODERS = {f"G726-{kbps}": raw(["-f", "g726", "-code_size", str(kbps // 8), "-sample_rate", "8000"], 8000) for kbps in (16, 24, 32, 40)} | {
    "GSM": raw(["-f", "gsm", "-sample_rate", "8000"], 8000), "AMR": amr(b"#!AMR\n"), "AMR-WB": amr(b"#!AMR-WB\n"),
    "G729": g729, "G723": raw(["-f", "g723_1"], 8000), "SPEEX": speex,
    "PCMA": raw(["-f", "alaw", "-ar", "8000", "-ac", "1"], 8000), "PCMU": raw(["-f", "mulaw", "-ar", "8000", "-ac", "1"], 8000),
            "G722": raw(["-f", "g722"], 16000), "L16": pcm, "OPUS": opus}


def runs(packets):
    """Cuts a stream where the codec changes or RTP time jumps away from arrival."""
    run = []
    for packet in packets:
        if run:
            step = (packet.timestamp - run[-1].timestamp) / packet.clock - (packet.when - run[-1].when)
            if packet.codec != run[-1].codec or abs(step) > 0.5:
                yield run
                run = []
        run.append(packet)
    if run:
        yield run


def anchored(run):
    """Capture time of each packet's first sample: its RTP time, tied to the fastest packets around."""
    media = np.array([packet.timestamp for packet in run]) / run[0].clock
    offset = np.array([packet.when for packet in run]) - media
    order = np.argsort(media)
    first, last, lowest = 0, 0, np.empty(len(run))
    for index in order:
        while media[order[first]] < media[index] - ANCHOR_S:
            first += 1
        while last < len(run) and media[order[last]] <= media[index] + ANCHOR_S:
            last += 1
        lowest[index] = offset[order[first:last]].min()
    # A line through the minima: no packet's samples jump against its neighbour's.
    slope, base = np.polyfit(media - media[0], lowest, 1) if len(run) > 50 else (0.0, lowest.min())
    return media + base + slope * (media - media[0])


def at_rate(samples, rate):
    out = subprocess.run(["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(rate), "-ac", "1", "-i", "-", "-f", "s16le", "-ar",
                          str(OUT_RATE), "-"], input=samples.astype("<i2").tobytes(), check=True, capture_output=True).stdout
    return np.frombuffer(out, "<i2")


def place(run, track, begin):
    """Puts one run's sound where it belongs in the track."""
    sound, rate = DECODERS[run[0].codec](run)
    where = anchored(run)
    begin_s = where[0]
    # On the run's own time axis first, so that neighbours touch without a seam; then as a whole.
    line = np.zeros(int((run[-1].timestamp - run[0].timestamp) / run[0].clock * rate) + samples_of(run[-1], rate) + 1, "<i2")
    taken = 0
    for packet in run:
        count = samples_of(packet, rate)
        at = round((packet.timestamp - run[0].timestamp) * rate / run[0].clock)
        if 0 <= at <= len(line) - count:
            line[at:at + count] = sound[taken:taken + count]
        taken += count
    stretch = (where[-1] - where[0]) / max((run[-1].timestamp - run[0].timestamp) / run[0].clock, 1e-9) if len(run) > 1 else 1.0
    line = at_rate(line, rate)
    if abs(stretch - 1) > 5e-6:
        line = np.interp(np.arange(int(len(line) * stretch)) / stretch, np.arange(len(line)), line).astype("<i2")
    at = round((begin_s - begin) * OUT_RATE)
    if at < 0:
        line, at = line[-at:], 0
    room = track[at:at + len(line)]
    room[:] = np.where(line[:len(room)] != 0, line[:len(room)], room)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture")
    parser.add_argument("output")
    parser.add_argument("--start", choices=["answer", "media"], default="answer")
    parser.add_argument("--call-id")
    parser.add_argument("--keylog", help="SIP is in TLS; this opens it")
    parser.add_argument("--flow", nargs=3, action="append", default=[], metavar=("CHANNEL", "FROM", "TO"))
    options = parser.parse_args()
    signalling = Signalling(options.capture, options.call_id, options.keylog)
    streams = packets_of(options.capture, signalling, {(source, to): ("caller", "callee").index(side) for side, source, to in options.flow})
    if not streams or signalling.answered is None:
        sys.exit(f"truth: {options.capture}: no answered call with media that SDP announces")
    every = [packet for packets in streams.values() for packet in packets.values()]
    begin = signalling.answered if options.start == "answer" else min(packet.when for packet in every)
    tracks = np.zeros((int((max(packet.when for packet in every) - begin + 1) * OUT_RATE), 2), "<i2")
    for (side, ssrc), packets in streams.items():
        ordered = [packets[sequence] for sequence in sorted(packets)]
        for run in runs(ordered):
            place(run, tracks[:, side], begin)
        print(json.dumps({"side": ("caller", "callee")[side], "ssrc": ssrc, "codec": ordered[0].codec, "packets": len(ordered),
                          "absent": ordered[-1].sequence - ordered[0].sequence + 1 - len(ordered),
                          "first_s": round(min(packet.when for packet in ordered) - begin, 4)}))
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-f", "s16le", "-ar", str(OUT_RATE), "-ac", "2", "-i", "-", options.output],
                   input=tracks.tobytes(), check=True)


if __name__ == "__main__":
    main()
