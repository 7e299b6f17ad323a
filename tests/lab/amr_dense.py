#!/usr/bin/env python3
"""Rewrites a captured call with octet-aligned AMR or AMR-WB as one in the bandwidth-efficient layout.

    amr_dense.py IN.pcap OUT.pcap

baresip 1.0.0 knows only octet-align=1. The frames' bits, times and headers stay, the payloads are packed anew
(RFC 4867, sections 4.3 and 4.4) and the SDP says octet-align=0. One frame a packet; classic pcap, Ethernet, IPv4.
Standard library only.
"""
import struct
import sys

import wire
from damage import frames, is_rtp, payload_of

# Speech bits by frame type (RFC 4867, tables 1a and 1b); 15 is "no data".
BITS = {False: (95, 103, 118, 134, 148, 159, 204, 244, 39), True: (132, 177, 253, 285, 317, 365, 397, 461, 477, 40)}


def dense(payload, wide):
    kind, quality = payload[1] >> 3 & 15, payload[1] >> 2 & 1
    size = 0 if kind == 15 else BITS[wide][kind]
    bits = payload[0] >> 4  # the codec mode request; then F = 0, the frame's type, its quality
    bits = (bits << 1) << 5 | kind << 1 | quality
    bits = bits << size | int.from_bytes(payload[2:], "big") >> (8 * len(payload[2:]) - size)
    padding = -(10 + size) % 8
    return (bits << padding).to_bytes((10 + size + padding) // 8, "big")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    every = list(frames(sys.argv[1]))
    wide = any(b"AMR-WB/16000" in frame for _, frame in every)
    with open(sys.argv[2], "wb") as out:
        out.write(wire.PCAP_HEADER)
        for when, frame in every:
            payload = payload_of(frame)
            if is_rtp(payload) and payload[1] & 127 != 101:  # telephone-event
                packet = payload[:12] + dense(payload[12:], wide)
                ends = [(".".join(map(str, frame[at:at + 4])), struct.unpack_from("!H", frame, port)[0]) for at, port in ((26, 34), (30, 36))]
                frame = wire.udp_prefix(*ends, len(packet)) + packet
            out.write(wire.record(when, frame.replace(b"octet-align=1", b"octet-align=0")))


if __name__ == "__main__":
    main()
