#!/usr/bin/env python3
"""Opens the SRTP of a captured call with the keys of its SDP, without callspan.

    srtp_open.py IN.pcap OUT.pcap

OUT.pcap has the same frames at the same times, with RTP where SRTP was and no word of it in the SDP, for truth.py. A packet that no key of
its receiver's peer opens is left out and counted; prints {"opened": …, "not_opened": …}. Classic pcap, Ethernet,
IPv4, UDP. Needs tshark and python3-cryptography.
"""
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import srtp  # noqa: E402
import wire  # noqa: E402
from damage import frames, is_rtp, payload_of  # noqa: E402
from truth import tshark  # noqa: E402


PLAIN = {b"RTP/SAVP": b"RTP/AVP", b"\r\ns=-": b"\r\ns=--", b"\r\na=crypto:": b"\r\na=opened:"}  # of the same length in all


def keys_of(path):
    """By address of media: the streams that its owner may have sent under, newest first, with the time they were announced."""
    found = {}
    for when, host, port, attributes in tshark(path, "sdp", "frame.time_epoch", "sdp.connection_info.address", "sdp.media.port", "sdp.media_attr"):
        for attribute in attributes.split(","):
            if attribute.startswith("crypto:"):
                found.setdefault((host.split(",")[0], int(port.split(",")[0])), []).insert(0, srtp.Stream(*srtp.parse(attribute[7:])))
    return found


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    keys, counts = keys_of(sys.argv[1]), {"opened": 0, "not_opened": 0}
    with open(sys.argv[2], "wb") as out:
        out.write(wire.PCAP_HEADER)
        for when, frame in frames(sys.argv[1]):
            payload = payload_of(frame)
            if is_rtp(payload):
                source = (".".join(map(str, frame[26:30])), struct.unpack_from("!H", frame, 34)[0])
                plain = next(filter(None, (stream.open(payload) for stream in keys.get(source, []))), None)
                counts["opened" if plain else "not_opened"] += 1
                if plain is None:
                    continue
                to = (".".join(map(str, frame[30:34])), struct.unpack_from("!H", frame, 36)[0])
                frame = wire.udp_prefix(source, to, len(plain)) + plain
            elif b"\r\na=crypto:" in payload:
                for sealed, opened in PLAIN.items():
                    frame = frame.replace(sealed, opened)
            out.write(wire.record(when, frame))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
