#!/usr/bin/env python3
"""Compares callspan's figures of each RTP stream with tshark's, over a corpus of captures.

    compare_tshark.py [CORPUS] [--only NAME] [--table]

For every stream that callspan claims in a capture, `tshark -z rtp,streams` counts it too:

  packets      tshark counts duplicates as packets: compared is callspan's `packets` + `duplicate`
  lost         and takes them off the loss: compared is callspan's `lost` - `duplicate`
  jitter_mean  the mean and the worst of RFC 3550's running estimate, in ms
  jitter_max
  jitter       the estimate at the end, which tshark does not print: computed here from the arrival times
               and RTP timestamps that tshark reads, without those of telephone-events and comfort noise

A difference must stand in the table of docs/corpus.md with both figures and its reason, and a row of that
table must be a difference. So must a stream that tshark has at an address of the call's SDP and callspan
has not.

CALLSPAN names the program (default target/release/callspan), CALLSPAN_CORPUS the corpus (default
../shared/corpus). Exit status 1 if anything is unexplained, 2 if there is no corpus. Standard library only.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CALLSPAN = str(pathlib.Path(os.environ.get("CALLSPAN", ROOT / "target/release/callspan")).resolve())
EXPLAINED = ROOT / "docs" / "corpus.md"

# Arrival times are cut to microseconds by one and to nanoseconds by the other.
JITTER_MS = 0.02
JITTER_SHARE = 0.01

# Payload types 13 (RFC 3389) and 19 (its drafts).
COMFORT_NOISE = (13, 19)


def run(*command):
    return subprocess.run([str(part) for part in command], text=True, capture_output=True, check=False)


def callspan(*arguments):
    done = run(CALLSPAN, *arguments)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"callspan {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def ours(capture):
    """Streams by (SSRC, source, destination); a stream that is in two calls is one."""
    with tempfile.TemporaryDirectory() as work:
        archive = pathlib.Path(work) / "archive"
        callspan("init", archive, "--plaintext")
        callspan("replay", capture, "--archive", archive, "--store", "none")
        calls = [json.loads(row) for row in callspan("calls", "--archive", archive, "--json").splitlines()]
    streams = {}
    for call in calls:
        for stream in call["streams"]:
            streams.setdefault((stream["ssrc"], stream["source"], stream["destination"]), stream)
    return streams


ROW = re.compile(r"""\s*(?P<start>[\d.]+)\s+(?P<end>[\d.]+)\s+(?P<source>\S+)\s+(?P<source_port>\d+)\s+(?P<destination>\S+)\s+
    (?P<destination_port>\d+)\s+0x(?P<ssrc>[0-9A-F]{8})\s+(?P<payload>.*?)\s+(?P<packets>\d+)\s+(?P<lost>-?\d+)\s+\([^)]*\)\s+
    (?P<deltas>[-\d.]+\s+[-\d.]+\s+[-\d.]+)\s+(?P<jitter_min>[-\d.]+)\s+(?P<jitter_mean>[-\d.]+)\s+(?P<jitter_max>[-\d.]+)""", re.VERBOSE)


def theirs(capture, ports):
    """tshark's streams, by the same key. `ports` are told to be RTP where no SDP says so."""
    decode = [word for port in sorted(ports) for word in ("-d", f"udp.port=={port},rtp")]
    table = run("tshark", "-q", "-r", capture, *decode, "-z", "rtp,streams").stdout
    streams = {}
    for line in table.splitlines():
        row = ROW.match(line)
        if row:
            address = lambda side: joined(row[side], row[side + "_port"])
            key = ("0x" + row["ssrc"].lower(), address("source"), address("destination"))
            # A stream that pauses for long is several rows to tshark.
            streams.setdefault(key, []).append(row)
    return streams, packets(capture, decode)


def joined(ip, port):
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def packets(capture, decode):
    """Arrival, timestamp and payload type of each packet of each stream, in order."""
    fields = ["frame.time_epoch", "ip.src", "ipv6.src", "udp.srcport", "ip.dst", "ipv6.dst", "udp.dstport",
              "rtp.ssrc", "rtp.timestamp", "rtp.p_type", "rtp.seq", "rtpevent.event_id"]
    wanted = [word for field in fields for word in ("-e", field)]
    lines = run("tshark", "-r", capture, *decode, "-Y", "rtp.ssrc", "-T", "fields", "-E", "occurrence=l", *wanted).stdout
    streams = collections.defaultdict(list)
    for line in lines.splitlines():
        time, ip4, ip6, port, to4, to6, to_port, ssrc, timestamp, kind, sequence, event = line.split("\t")
        key = (ssrc, joined(ip4 or ip6, port), joined(to4 or to6, to_port))
        streams[key].append((float(time), int(timestamp), int(kind), int(sequence), event))
    return streams


def jitter_at_end(stream, clock_hz):
    """RFC 3550 A.8 in ms, of sound: events repeat their timestamp (RFC 4733 2.5.1.1), and comfort noise is
    sent when a pause is noticed."""
    estimate, last, seen = 0.0, None, set()
    for time, timestamp, kind, sequence, event in stream:
        if event or kind in COMFORT_NOISE or sequence in seen:
            continue
        seen.add(sequence)
        if last is not None and timestamp != last[1]:
            sent = (timestamp - last[1] + 2**31) % 2**32 - 2**31
            difference = abs((time - last[0]) * clock_hz - sent)
            # A restarted clock is no jitter.
            if difference <= clock_hz:
                estimate += (difference - estimate) / 16
        if last is None or timestamp != last[1]:
            last = (time, timestamp)
        if len(seen) > 30_000:
            seen.clear()
    return estimate * 1000 / clock_hz


def figures(stream, rows, wire):
    """(name, tshark's, callspan's) of one stream."""
    total = lambda name: sum(int(row[name]) for row in rows)
    yield "packets", total("packets"), stream["packets"] + stream["duplicate"]
    yield "lost", total("lost"), stream["lost"] - stream["duplicate"]
    counted = [int(row["packets"]) for row in rows]
    mean = sum(float(row["jitter_mean"]) * count for row, count in zip(rows, counted)) / max(sum(counted), 1)
    yield "jitter_mean", mean, stream["jitter_mean_ms"]
    yield "jitter_max", max(float(row["jitter_max"]) for row in rows), stream["jitter_max_ms"]
    yield "jitter", jitter_at_end(wire, stream["clock_hz"]), stream["jitter_ms"]


def agree(name, one, other):
    if name.startswith("jitter"):
        return abs(one - other) <= JITTER_MS + JITTER_SHARE * max(one, other)
    return one == other


def shown(value):
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def explained():
    """Rows of the table in docs/corpus.md: capture, stream, figure, tshark's, callspan's."""
    if not EXPLAINED.exists():
        return set()
    rows = [[cell.strip().strip("`") for cell in line.strip().strip("|").split("|")] for line in EXPLAINED.read_text().splitlines()]
    return {tuple(row[:5]) for row in rows if len(row) == 6 and row[5] and row[1].startswith("0x")}


def compare(capture, differences):
    name, mine = capture.name, ours(capture)
    if not mine:
        return 0
    known, wire = theirs(capture, set())
    missing = [key for key in mine if key not in known]
    if missing:
        ports = {key[2].rsplit(":", 1)[1] for key in missing}
        known, wire = theirs(capture, ports)
    for key, stream in mine.items():
        if key not in known:
            differences.append((name, key[0], "stream", "none", "one"))
            continue
        for figure, one, other in figures(stream, known[key], wire[key]):
            if not agree(figure, one, other):
                differences.append((name, key[0], figure, shown(one), shown(other)))
    return len(mine)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default=os.environ.get("CALLSPAN_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("--only", help="captures whose name contains this")
    parser.add_argument("--table", action="store_true", help="print what is unexplained as rows of the table")
    options = parser.parse_args()
    folder = pathlib.Path(options.corpus) / "captures"
    if not folder.is_dir():
        print(f"NOT CHECKED: there is no corpus at {options.corpus}")
        sys.exit(2)
    differences, streams, captures = [], 0, 0
    for capture in sorted(folder.iterdir()):
        if options.only and options.only not in capture.name:
            continue
        captures += 1
        streams += compare(capture, differences)
    known = explained()
    new = [row for row in differences if row not in known]
    stale = [row for row in sorted(known) if row not in differences] if not options.only else []
    for row in new:
        print("| `" + "` | `".join(row[:3]) + "` | " + " | ".join(row[3:]) + " |  |" if options.table else
              "UNEXPLAINED {}: {}: {}: tshark {}, callspan {}".format(*row))
    for row in stale:
        print("NO LONGER SO {}: {}: {}: tshark {}, callspan {}".format(*row))
    print(f"{captures} captures, {streams} streams: {len(differences)} differences, {len(new)} unexplained, {len(stale)} stale rows")
    sys.exit(bool(new or stale))


main()
