"""Writes the seed corpus: small, whole inputs of every kind, cut from the project's own captures.

    python3 fuzz/seeds.py

Standard library only. What a fuzzer found later stands beside these under a name of its own.
"""
import gzip
import pathlib
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "lab"))
CAPTURES = HERE.parent / "tests" / "captures"

import wire  # noqa: E402


def frames(path):
    data, at = path.read_bytes(), 24
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16:at + 16 + length]
        at += 16 + length


def seed(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def udp_payload(frame):
    return frame[42:] if frame[12:14] == b"\x08\x00" and frame[23] == 17 else b""


def tcp_payload(frame):
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return b""
    return frame[34 + (frame[46] >> 4) * 4:14 + struct.unpack_from("!H", frame, 16)[0]]


def from_phones():
    pcma = list(frames(CAPTURES / "two-phones-pcma.pcap"))
    g722 = list(frames(CAPTURES / "two-phones-g722-hold.pcap"))
    sip = [udp_payload(frame) for frame in pcma if b"SIP/2.0\r\n" in udp_payload(frame)]
    for number, message in enumerate(sip):
        seed("sip_message", f"pcma-{number}", message)
    seed("sip_sdp", "offer", sip[0].split(b"\r\n\r\n", 1)[1])
    stream = [tcp_payload(frame) for frame in g722 if b"SIP/2.0\r\n" in tcp_payload(frame)]
    seed("sip_framing", "two-messages", b"".join(stream[:2]))
    seed("sip_framing", "keep-alive-between", stream[0] + b"\r\n\r\n" + stream[1])
    # One byte that says how to cut, then the stream: bodies may read it so or not.
    seed("net_tcp", "frames", b"".join(struct.pack("!H", len(frame)) + frame for frame in g722 if tcp_payload(frame))[:4000])
    media = [payload for payload in map(udp_payload, pcma) if payload[:1] == b"\x80" and len(payload) == 172]
    seed("rtp_packet", "pcma", media[0])
    events = [payload for payload in map(udp_payload, g722) if payload[:1] == b"\x80" and len(payload) == 16]
    seed("rtp_packet", "telephone-event", events[0])
    reports = [payload for payload in map(udp_payload, pcma) if len(payload) > 1 and 200 <= payload[1] <= 207 and payload[0] >> 6 == 2]
    seed("rtcp_packet", "sender-report", reports[0])
    seed("codec_decoders", "pcma", b"\x08" + media[5][12:])
    seed("codec_decoders", "g722", b"\x09" + next(p for p in map(udp_payload, g722) if p[:2] == b"\x80\x09")[12:])
    for name, frame in (("invite", next(f for f in pcma if b"INVITE" in f)), ("rtp", next(f for f in pcma if len(f) == 214)),
                        ("tcp", next(f for f in g722 if tcp_payload(f))), ("arp", next(f for f in pcma if f[12:14] == b"\x08\x06"))):
        seed("net_decap", name, frame)
    head = (CAPTURES / "two-phones-pcma.pcap").read_bytes()[:24]
    few = b"".join(struct.pack("<IIII", 1, number, len(frame), len(frame)) + frame for number, frame in enumerate(pcma[:3]))
    seed("capture_files", "micro-little.pcap", head + few)
    seed("capture_files", "micro-little.pcap.gz", gzip.compress(head + few, mtime=0))
    seed("capture_files", "cut.pcap", (head + few)[:-7])


def by_hand():
    frame = wire.udp_prefix(("10.0.0.1", 5060), ("10.0.0.2", 5060), 4) + b"\r\n\r\n"
    seed("net_decap", "vlan", frame[:12] + b"\x81\x00\x00\x64" + frame[12:])
    seed("net_decap", "qinq", frame[:12] + b"\x88\xa8\x00\x64\x81\x00\x00\xc8" + frame[12:])
    fragment = bytearray(frame)
    fragment[20:22] = b"\x20\x00"
    seed("net_decap", "first-fragment", bytes(fragment))
    ipv6 = struct.pack("!IHBB", 6 << 28, 12, 17, 64) + bytes(15) + b"\x01" + bytes(15) + b"\x02" + struct.pack("!HHHH", 5060, 5060, 12, 0) + b"\r\n\r\n"
    seed("net_decap", "ipv6", frame[:12] + b"\x86\xdd" + ipv6)
    seed("sip_message", "folded", b"OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP c\r\n ;branch=z9hG4bK1\r\nf:<sip:x@y>;tag=1\r\nt:<sip:a@b>\r\ni:1@c\r\nCSeq:1 OPTIONS\r\nl:0\r\n\r\n")
    seed("sip_sdp", "no-connection", b"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0 8 18\r\na=sendonly\r\n")
    seed("sip_sdp", "ipv6-bundle", b"v=0\no=- 1 1 IN IP6 ::1\ns=-\nc=IN IP6 2001:db8::1\nt=0 0\na=group:BUNDLE 0 1\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=rtcp-mux\na=rtpmap:111 opus/48000/2\n")
    seed("sip_sdp", "ice", b"v=0\r\nm=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\r\n"
         b"a=candidate:2 2 udp 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998 generation 0\r\n"
         b"a=remote-candidates:1 192.0.2.9 5000 2 192.0.2.9 5001\r\na=ssrc:1001 cname:a@b\r\n")
    relayed = bytes.fromhex("80000001000000a000000009ffff")
    seed("rtp_packet", "turn-channel", b"\x40\x01\x00\x0e" + relayed + b"\0\0")
    seed("rtp_packet", "turn-indication", bytes.fromhex("001700202112a442") + b"\7" * 12 + bytes.fromhex("001200080001000000000000 0013000e") + relayed + b"\0\0")
    seed("rtp_packet", "extension-csrc-padding", bytes.fromhex("b2 88 ffff 00000000 deadbeef 11111111 22222222 bede0001 10ff0000 d5d5 000002".replace(" ", "")))
    seed("sip_dtmf_body", "relay", b"Signal= 5\r\nDuration= 160\r\n")
    seed("sip_dtmf_body", "event", b"\x05\x80\x00\xa0")
    seed("sip_dtmf_body", "kpml", b"<?xml version=\"1.0\"?><kpml-response version=\"1.0\" code=\"200\" text=\"OK\" digits='5#'/>")
    seed("rtcp_packet", "extended", bytes.fromhex(
        "80cf001c00000009 04000002e000000180000000 05000003000000020001800000008000 06a00009000000020001005a"
        "0000000300000007000000010000006300000028 0000000540400000 07000008000000020a148004007803e80032001e"
        "f1c92810587f297f3000003c007800c8 c8000000"))
    seed("rtcp_packet", "bye", bytes.fromhex("80c90001deadbeef81cb0001deadbeef"))
    # AMR 12.2 octet-aligned, AMR-WB 6.60 bandwidth-efficient, a silence frame; two frames of Speex.
    seed("rtp_udptl", "indicator", bytes.fromhex("000001060000"))
    seed("rtp_udptl", "redundancy", bytes.fromhex("800903c00180000201070208 09"))
    seed("rtp_udptl", "fec", bytes.fromhex("000702c001800103020205060109"))
    seed("rtp_red", "two-older", b"\x88\x05\x00\x04\x88\x02\x80\x04\x08" + bytes(12))
    seed("codec_amr", "octet-aligned", b"\xf0\x3c" + bytes(range(31)))
    seed("codec_amr", "dense", b"\xf0\x5a" + bytes(range(16)))
    seed("codec_amr", "silence", b"\xf0\xc4\x44" + bytes(5) + bytes(6))
    seed("codec_speech", "g729-and-silence", b"\x0c" + bytes(range(10)) + b"\x12\x34")
    seed("codec_speech", "gsm", b"\x21\xd9" + bytes(range(40, 72)) + b"\xd5" + bytes(range(32)))
    seed("codec_speech", "ilbc", b"\x26" + bytes(range(7, 83)))
    seed("codec_speech", "speex", b"\x3c\x1d" + bytes(range(100, 158)) + b"\x7f")
    seed("codec_opus_packet", "silk-20ms", b"\x08\x0b\xe4\xc1\x36\xec\xc5\x80")
    seed("codec_opus_packet", "celt-code3-vbr", bytes.fromhex("ff820301020304050607"))
    seed("codec_opus_packet", "dtx", b"\x08")
    header_big = struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    seed("capture_files", "nano-big.pcap", header_big + struct.pack(">IIII", 1, 2, len(frame), len(frame)) + frame)
    # A TPACKET_V3 block of one frame: block descriptor, frame header, link-layer address, frame.
    header = struct.pack("<IIIIIIHHIIHH8x", 0, 1, 2, len(frame), len(frame), 1, 82, 96, 0, 0, 0, 0) + bytes(34)
    block = struct.pack("<IIIIIIQIIII", 1, 48, 1, 1, 48, 48 + len(header) + len(frame), 7, 1, 2, 1, 2) + header + frame
    seed("capture_block", "one-frame", block)
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    interface = struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
    padded = frame + bytes(-len(frame) % 4)
    packet = struct.pack("<IIIIIII", 6, 32 + len(padded), 0, 0, 1, len(frame), len(frame)) + padded + struct.pack("<I", 32 + len(padded))
    seed("capture_files", "one.pcapng", section + interface + packet)


def tls_stream(name, version, suite):
    """A connection of OpenSSL's, made anew only when its seed is missing: its randoms differ each time."""
    if (HERE / "corpus" / "tls_stream" / name).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        script = HERE.parent / "tests" / "lab" / "tls_pair.py"
        subprocess.run([sys.executable, script, folder, version, suite, "short"], check=True)
        log, wire = (pathlib.Path(folder, part).read_bytes() for part in ("keys.log", "wire"))
    data, at = struct.pack("!H", len(log)) + log, 0
    while at < len(wire):
        side, length = struct.unpack_from("!BI", wire, at)
        data += struct.pack("!BH", side, length) + wire[at + 5:at + 5 + length]
        at += 5 + length
    seed("tls_stream", name, data)


def streams():
    """Directions of the bundled capture as tests/lab/rewrap.py carries them."""
    with tempfile.TemporaryDirectory() as folder:
        for how, target in (("ws", "sip_websocket"), ("ws-deflate", "sip_websocket"), ("hep", "net_hep")):
            path = pathlib.Path(folder, how)
            subprocess.run([sys.executable, HERE.parent / "tests" / "lab" / "rewrap.py", CAPTURES / "two-phones-g722-hold.pcap", path, how],
                           check=True)
            for side, name in ((b"\x0a\x63\x00\x01", "client"), (b"\x0a\x63\x00\x02", "server")):
                sent = b"".join(tcp_payload(frame) for frame in frames(path) if frame[26:30] == side)
                if sent:
                    seed(target, f"{how}-{name}", sent[:3000])


def secrets():
    tls_stream("gcm-1.2", "1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    tls_stream("cbc-1.2", "1.2", "ECDHE-ECDSA-AES128-SHA256")
    tls_stream("chacha-1.3", "1.3", "TLS_CHACHA20_POLY1305_SHA256")
    log = b"# made by hand\n" + b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48 + b"\nRSA " + b"01" * 8 + b" " + b"02" * 48 + b"\n"
    labels = (b"CLIENT_HANDSHAKE_TRAFFIC_SECRET", b"SERVER_HANDSHAKE_TRAFFIC_SECRET", b"CLIENT_TRAFFIC_SECRET_0", b"SERVER_TRAFFIC_SECRET_1", b"EXPORTER_SECRET")
    log += b"".join(label + b" " + b"3c" * 32 + b" " + b"4d" * 32 + b"\r\n" for label in labels)
    seed("tls_key_log", "every-label", b"\x50" + log)
    seed("tls_key_log", "no-last-line-end", b"\x03" + log[:200])


def whole_calls():
    """Settings, then the SIP of a call and the first of its media, as `work::fuzz::pipeline` reads frames."""
    for number, name in enumerate(("two-phones-pcma", "two-phones-g722-hold")):
        data, media = bytes([number * 4]), 0
        for frame in frames(CAPTURES / f"{name}.pcap"):
            is_sip = b"SIP/2.0" in frame
            media += not is_sip and len(frame) > 100
            if is_sip or media < 60:
                data += struct.pack("!BH", 0 if is_sip else 10, len(frame)) + frame
        seed("work_pipeline", name, data)


def protected():
    """Packets under SRTP, and a DTLS handshake with its key log: see tests/lab/srtp_calls.py. New keys each time."""
    if (HERE / "corpus" / "tls_dtls" / "openssl").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, HERE.parent / "tests" / "lab" / "srtp_calls.py", folder], check=True)
        packets = [frame[28:] for frame in frames(pathlib.Path(folder, "calls.pcap")) if frame[9] == 17]
        framed = lambda data: struct.pack("!H", len(data)) + data
        media = [packet for packet in packets if packet[:1] == b"\x80"]
        zrtp = [packet for packet in packets if packet[4:8] == b"ZRTP"]
        seed("rtp_srtp", "libsrtp", b"".join(framed(packet) for packet in media[400:4000:500]))
        seed("rtp_srtp", "zrtp", b"".join(map(framed, zrtp)))
        log = pathlib.Path(folder, "keys.log").read_bytes()
        dtls = [packet for packet in packets if packet[:1] in (b"\x14", b"\x16") and packet[1:2] == b"\xfe"]
        seed("tls_dtls", "openssl", framed(log) + b"".join(map(framed, dtls)))


from_phones()
whole_calls()
by_hand()
secrets()
protected()
streams()
