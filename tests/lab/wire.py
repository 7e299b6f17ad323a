"""Frames as a mirror port sees them, written to a capture file. Standard library only.

Classic pcap, little endian, nanoseconds; Ethernet, IPv4, UDP; SIP dialogs; RTP; G.711 (ITU-T G.711).
"""
import struct

PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
FRAME_SAMPLES = 160  # 20 ms at 8 kHz


def alaw(sample):
    """One 16-bit sample in A-law."""
    sign = 0x80 if sample >= 0 else 0
    magnitude = min(sample if sample >= 0 else -sample - 1, 32767) >> 3
    if magnitude < 32:
        code = magnitude >> 1
    else:
        exponent = magnitude.bit_length() - 5
        code = exponent << 4 | magnitude >> exponent & 15
    return (code | sign) ^ 0x55


def ulaw(sample):
    """One 16-bit sample in mu-law."""
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~((0x80 if sample < 0 else 0) | exponent << 4 | magnitude >> exponent + 3 & 15) & 0xFF


LAW = {8: [alaw(sample - 32768) for sample in range(65536)], 0: [ulaw(sample - 32768) for sample in range(65536)]}
NAMES = {8: "PCMA", 0: "PCMU"}


def encode(samples, payload_type):
    """16-bit samples as the bytes of static payload type 0 (PCMU) or 8 (PCMA)."""
    law = LAW[payload_type]
    return bytes(law[int(sample) + 32768] for sample in samples)


def ipv4(address):
    return bytes(int(part) for part in address.split("."))


def udp_prefix(source, destination, payload_len):
    """Ethernet, IPv4 and UDP headers before a payload of that length; the UDP checksum is absent (RFC 768)."""
    ethernet = b"\x02\x00" + ipv4(destination[0]) + b"\x02\x00" + ipv4(source[0]) + b"\x08\x00"
    words = struct.pack("!BBHHHBBH", 0x45, 0, 28 + payload_len, 0, 0x4000, 64, 17, 0) + ipv4(source[0]) + ipv4(destination[0])
    total = sum(struct.unpack("!10H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    words = words[:10] + struct.pack("!H", ~total & 0xFFFF) + words[12:]
    return ethernet + words + struct.pack("!HHHH", source[1], destination[1], 8 + payload_len, 0)


def record(when_ns, frame):
    """A frame with its pcap record header."""
    return struct.pack("<IIII", when_ns // 10**9, when_ns % 10**9, len(frame), len(frame)) + frame


class RtpStream:
    """One SSRC one way: gives frames with 160 bytes of G.711 each."""

    def __init__(self, source, destination, ssrc, payload_type, sequence, timestamp):
        self.prefix = udp_prefix(source, destination, 12 + FRAME_SAMPLES)
        self.ssrc, self.payload_type = ssrc, payload_type
        self.sequence, self.timestamp = sequence, timestamp

    def frame(self, number, payload, marker=0, skipped=0):
        """Packet `number` of the stream; `skipped` 20 ms frames before it were never sent (their time passed)."""
        return b"".join((self.prefix, struct.pack(
            "!BBHII", 0x80, marker << 7 | self.payload_type, self.sequence + number & 0xFFFF,
            self.timestamp + (number + skipped) * FRAME_SAMPLES & 0xFFFFFFFF, self.ssrc), payload))


class Dialog:
    """The SIP messages of one call between two endpoints that talk to each other directly."""

    def __init__(self, call_id, caller, callee, signalling, media, payload_type):
        self.call_id, self.caller, self.callee = call_id, caller, callee
        self.signalling, self.media, self.payload_type = signalling, media, payload_type
        self.uris = [f"sip:{user}@{host}" for user, (host, _) in zip((caller, callee), signalling)]

    def sdp(self, side):
        host, port = self.media[side]
        return (f"v=0\r\no=synth 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
                f"m=audio {port} RTP/AVP {self.payload_type}\r\n"
                f"a=rtpmap:{self.payload_type} {NAMES[self.payload_type]}/8000\r\na=ptime:20\r\n")

    def message(self, start, sequence, method, body="", answered=True, sent_by=0):
        """A frame with one message. `sent_by`: 0 the caller, 1 the callee."""
        tag = f";tag=callee-{self.call_id}" if answered else ""
        text = (f"{start}\r\nVia: SIP/2.0/UDP {self.signalling[0][0]}:5060;branch=z9hG4bK-{self.call_id}-{sequence}{method}\r\n"
                f"From: \"Synth {self.caller}\" <{self.uris[0]}>;tag=caller-{self.call_id}\r\nTo: <{self.uris[1]}>{tag}\r\n"
                f"Call-ID: {self.call_id}\r\nCSeq: {sequence} {method}\r\nContact: <{self.uris[sent_by]}>\r\nMax-Forwards: 70\r\n")
        if body:
            text += "Content-Type: application/sdp\r\n"
        payload = (text + f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
        return udp_prefix(self.signalling[sent_by], self.signalling[1 - sent_by], len(payload)) + payload

    def opening(self, answer_ns):
        """INVITE, 180, 200 (captured at `answer_ns`) and ACK, each with its capture time."""
        return [(answer_ns - 200_000_000, self.message(f"INVITE {self.uris[1]} SIP/2.0", 1, "INVITE", self.sdp(0), answered=False)),
                (answer_ns - 150_000_000, self.message("SIP/2.0 180 Ringing", 1, "INVITE", sent_by=1)),
                (answer_ns, self.message("SIP/2.0 200 OK", 1, "INVITE", self.sdp(1), sent_by=1)),
                (answer_ns + 8_000_000, self.message(f"ACK {self.uris[1]} SIP/2.0", 1, "ACK"))]

    def ending(self, bye_ns):
        """BYE by the caller and its answer."""
        return [(bye_ns, self.message(f"BYE {self.uris[1]} SIP/2.0", 2, "BYE")),
                (bye_ns + 3_000_000, self.message("SIP/2.0 200 OK", 2, "BYE", sent_by=1))]
