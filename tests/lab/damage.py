#!/usr/bin/env python3
"""Makes a worse capture of a good one, the same way every time.

    damage.py IN.pcap OUT.pcap [--loss %] [--reorder %] [--jitter-ms MS] [--duplicate] [--vlan ID]
              [--drift PPM] [--no-bye] [--skip SECONDS] [--cut BYTES] [--seed N]

Loss, reordering (45 ms late) and jitter strike RTP; --duplicate and --vlan every frame; --drift
stretches capture time; --skip begins in the middle of the call; --cut is a snap length. Prints, per RTP
source and SSRC, how many packets are left and how many inside the stream are gone. Classic pcap with
Ethernet and IPv4, either precision, little endian. Standard library only.
"""
import argparse
import json
import random
import struct

import wire

TICKS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # nanoseconds a fraction counts


def frames(path):
    with open(path, "rb") as file:
        data = file.read()
    tick, at = TICKS[struct.unpack_from("<I", data)[0]], 24
    while at < len(data):
        seconds, fraction, length = struct.unpack_from("<III", data, at)
        yield seconds * 10**9 + fraction * tick, data[at + 16:at + 16 + length]
        at += 16 + length


def payload_of(frame):
    """Payload of a whole UDP datagram, or nothing."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return b""
    return frame[22 + (frame[14] & 15) * 4:]


def is_rtp(payload):
    return len(payload) > 12 and payload[0] >> 6 == 2 and not 64 <= payload[1] & 127 <= 95


def is_bye(frame):
    return b"BYE sip:" in frame or b"CSeq: 2 BYE" in frame or b" BYE\r\n" in frame


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("output")
    for name in ("loss", "reorder", "jitter-ms", "drift", "skip"):
        parser.add_argument(f"--{name}", type=float, default=0)
    parser.add_argument("--duplicate", action="store_true")
    parser.add_argument("--vlan", type=int)
    parser.add_argument("--no-bye", action="store_true")
    parser.add_argument("--cut", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice, out, begin, streams = random.Random(options.seed), [], None, {}
    for when, frame in frames(options.input):
        begin = when if begin is None else begin
        if when - begin < options.skip * 1e9 or options.no_bye and is_bye(frame):
            continue
        when = begin + int((when - begin) * (1 + options.drift / 1e6))
        payload = payload_of(frame)
        if is_rtp(payload):
            stream = streams.setdefault(payload[8:12].hex(), [])
            lost = dice.random() * 100 < options.loss
            stream.append(not lost)
            if lost:
                continue
            when += int(dice.random() * options.jitter_ms * 1e6)
            when += 45_000_000 if dice.random() * 100 < options.reorder else 0
        whole = frame
        if options.vlan is not None:
            whole = frame[:12] + struct.pack("!HH", 0x8100, options.vlan) + frame[12:]
        out.append((when, whole))
        if options.duplicate:
            out.append((when + 30_000, whole))
    out.sort(key=lambda item: item[0])
    with open(options.output, "wb") as file:
        file.write(wire.PCAP_HEADER)
        for when, frame in out:
            kept = frame[:options.cut]
            file.write(struct.pack("<IIII", when // 10**9, when % 10**9, len(kept), len(frame)) + kept)
    for ssrc, kept in streams.items():
        inside = "".join("x" if one else "." for one in kept).strip(".")
        print(json.dumps({"ssrc": f"0x{ssrc}", "packets": sum(kept), "lost": inside.count(".")}))


if __name__ == "__main__":
    main()
