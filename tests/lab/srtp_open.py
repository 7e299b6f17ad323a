#!/usr/bin/env python3
"""Opens the SRTP of a captured call with the keys of its SDP, or of its DTLS by a key log, without callspan.

    srtp_open.py IN.pcap OUT.pcap [KEYS.log]

OUT.pcap has the same frames at the same times, with RTP where SRTP was and no word of it in the SDP, nor DTLS, for truth.py. A packet that no key of
its receiver's peer opens is left out and counted; prints {"opened": …, "not_opened": …}. Classic pcap, Ethernet,
IPv4, UDP. Needs tshark and python3-cryptography.
"""
import hashlib
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import srtp  # noqa: E402
import wire  # noqa: E402
from damage import frames, is_rtp, payload_of  # noqa: E402
from truth import tshark  # noqa: E402


# Of the same length in all: what is taken from a line is added to the session's name.
PLAIN = {b"RTP/SAVP": b"RTP/AVP", b"\r\ns=-": b"\r\ns=--", b"\r\na=crypto:": b"\r\na=opened:"}
PLAIN_DTLS = {b"UDP/TLS/RTP/SAVPF": b"RTP/AVP", b"\r\ns=-": b"\r\ns=-----------", b"\r\na=fingerprint:": b"\r\na=fingersopen:"}
SHA384 = {0x009D, 0x009F, 0xC02C, 0xC030}  # cipher suites of DTLS 1.2 whose PRF is SHA-384


def keys_of(path):
    """By address of media: the streams that its owner may have sent under, newest first, with the time they were announced."""
    found = {}
    for when, host, port, attributes in tshark(path, "sdp", "frame.time_epoch", "sdp.connection_info.address", "sdp.media.port", "sdp.media_attr"):
        for attribute in attributes.split(","):
            if attribute.startswith("crypto:"):
                found.setdefault((host.split(",")[0], int(port.split(",")[0])), []).insert(0, srtp.Stream(*srtp.parse(attribute[7:])))
    return found


def keys_by_dtls(path, log):
    """By address of media: the stream that its owner sends under, for each handshake whose secret is logged."""
    secrets = {}
    for line in pathlib.Path(log).read_text().splitlines():
        label, random, secret = line.split()
        if label == "CLIENT_RANDOM":
            secrets[bytes.fromhex(random)] = bytes.fromhex(secret)
    clients, found = {}, {}
    fields = ("ip.src", "udp.srcport", "ip.dst", "udp.dstport", "dtls.handshake.type", "dtls.handshake.random", "dtls.use_srtp.protection_profile",
              "dtls.handshake.ciphersuite")
    for host, port, to_host, to_port, kinds, random, profile, suite in tshark(path, "dtls.handshake.random", *fields):
        source, to, random = (host, int(port)), (to_host, int(to_port)), bytes.fromhex(random.replace(":", ""))
        if kinds.startswith("1"):
            clients[source, to] = random
        elif secrets.get(clients.get((to, source))):
            client_random = clients[to, source]
            digest = hashlib.sha384 if int(suite, 0) in SHA384 else hashlib.sha256
            keys = srtp.exported(int(profile, 0), secrets[client_random], client_random, random, digest)
            found[to], found[source] = [[srtp.Stream(*one)] for one in keys]
    return found


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    keys, counts = keys_of(sys.argv[1]), {"opened": 0, "not_opened": 0}
    if len(sys.argv) == 4:
        keys = keys_by_dtls(sys.argv[1], sys.argv[3])
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
            elif payload[:1] and 20 <= payload[0] <= 63:  # DTLS (RFC 7983): tshark would take what follows for SRTP
                continue
            for mark, plain in ((b"\r\na=crypto:", PLAIN), (b"\r\na=fingerprint:", PLAIN_DTLS)):
                if mark in payload:
                    for sealed, opened in plain.items():
                        frame = frame.replace(sealed, opened)
            out.write(wire.record(when, frame))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
