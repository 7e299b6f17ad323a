"""Calls under SRTP, each with the same sound, for every suite and every way that keys come.

    python3 tests/lab/srtp_calls.py FOLDER

Writes FOLDER/calls.pcap, FOLDER/keys.log (of a DTLS handshake that openssl's two ends make, through a relay) and
FOLDER/expected.json: for each call, in order, its name, the suite by which its streams must be opened, and the recording's
state. The packets are protected by libsrtp (Debian: libsrtp2-1); keys of DTLS are those that openssl exports. Standard
library only.
"""
import base64
import ctypes
import json
import math
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading
import time

NS = 1_000_000_000
ALICE, BOB = "10.0.0.1", "10.0.0.2"
SECONDS = 3
# Suite: cipher of libsrtp, bytes of key and salt, tag of RTP and of RTCP.
ICM_128, ICM_192, ICM_256, GCM_128, GCM_256, NULL_CIPHER = 1, 4, 5, 6, 7, 0
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (ICM_128, 16, 14, 10, 10),
    "AES_CM_128_HMAC_SHA1_32": (ICM_128, 16, 14, 4, 10),
    "AES_192_CM_HMAC_SHA1_80": (ICM_192, 24, 14, 10, 10),
    "AES_192_CM_HMAC_SHA1_32": (ICM_192, 24, 14, 4, 10),
    "AES_256_CM_HMAC_SHA1_80": (ICM_256, 32, 14, 10, 10),
    "AES_256_CM_HMAC_SHA1_32": (ICM_256, 32, 14, 4, 10),
    "AEAD_AES_128_GCM": (GCM_128, 16, 12, 16, 16),
    "AEAD_AES_256_GCM": (GCM_256, 32, 12, 16, 16),
}
DICE = random.Random(7)


class CryptoPolicy(ctypes.Structure):
    _fields_ = [("cipher", ctypes.c_uint32), ("key_len", ctypes.c_int), ("auth", ctypes.c_uint32), ("auth_key_len", ctypes.c_int),
                ("tag_len", ctypes.c_int), ("services", ctypes.c_int)]


class MasterKey(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("mki", ctypes.c_char_p), ("mki_len", ctypes.c_uint)]


class Policy(ctypes.Structure):
    _fields_ = [("ssrc_type", ctypes.c_int), ("ssrc", ctypes.c_uint), ("rtp", CryptoPolicy), ("rtcp", CryptoPolicy),
                ("key", ctypes.c_char_p), ("keys", ctypes.POINTER(ctypes.POINTER(MasterKey))), ("key_count", ctypes.c_ulong),
                ("ekt", ctypes.c_void_p), ("window", ctypes.c_ulong), ("allow_repeat", ctypes.c_int),
                ("extensions", ctypes.c_void_p), ("extension_count", ctypes.c_int), ("next", ctypes.c_void_p)]


LIB = ctypes.CDLL("libsrtp2.so.1")
assert LIB.srtp_init() == 0


class Sender:
    """A libsrtp session that protects what one party sends."""

    def __init__(self, suite, material, ssrc, mki=b"", unencrypted=False, roc=0):
        cipher, key_len, salt_len, tag_len, rtcp_tag_len = SUITES[suite]
        is_gcm = cipher in (GCM_128, GCM_256)
        cipher = NULL_CIPHER if unencrypted else cipher

        def crypto(tag_len):
            services = 2 if unencrypted else 3
            return CryptoPolicy(cipher, key_len + salt_len, 0 if is_gcm else 3, 0 if is_gcm else 20, tag_len, services)

        assert len(material) == key_len + salt_len
        self.material, self.mki = material, mki
        master = MasterKey(material, mki or None, len(mki))
        self.keys = (ctypes.POINTER(MasterKey) * 1)(ctypes.pointer(master))
        policy = Policy(ssrc_type=1, ssrc=ssrc, rtp=crypto(tag_len), rtcp=crypto(rtcp_tag_len), window=1024)
        if mki:
            policy.keys, policy.key_count = self.keys, 1
        else:
            policy.key = material
        self.session = ctypes.c_void_p()
        assert LIB.srtp_create(ctypes.byref(self.session), ctypes.byref(policy)) == 0, suite
        if roc:
            assert LIB.srtp_set_stream_roc(self.session, ctypes.c_uint32(ssrc), ctypes.c_uint32(roc)) == 0

    def call(self, function, packet):
        buffer = ctypes.create_string_buffer(packet, len(packet) + 400)
        length = ctypes.c_int(len(packet))
        status = function(self.session, buffer, ctypes.byref(length), int(bool(self.mki)), 0)
        assert status == 0, f"libsrtp says {status}"
        return buffer.raw[:length.value]

    def rtp(self, packet):
        return self.call(LIB.srtp_protect_mki, packet)

    def rtcp(self, packet):
        return self.call(LIB.srtp_protect_rtcp_mki, packet)


def random_key(suite):
    return DICE.randbytes(sum(SUITES[suite][1:3]))


def alaw(sample):
    """ITU-T G.711, table 1a, with the even bits inverted."""
    sign, magnitude = (0x80, sample) if sample >= 0 else (0, -sample - 1)
    magnitude >>= 4
    if magnitude < 32:
        code = magnitude >> 1
    else:
        segment = magnitude.bit_length() - 5
        code = (segment << 4 | magnitude >> segment & 15) if segment else magnitude >> 1
    return (code | sign) ^ 0x55


def sound(pitch, number):
    """20 ms of a tone that comes and goes four times a second."""
    samples = range(number * 160, number * 160 + 160)
    return bytes(alaw(int(9000 * max(0.0, math.sin(math.tau * 4 * n / 8000)) * math.sin(math.tau * pitch * n / 8000))) for n in samples)


def udp(source, destination, payload):
    (source, from_port), (destination, to_port) = source, destination
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0x4000, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(destination))
    return header + struct.pack("!HHHH", from_port, to_port, 8 + len(payload), 0) + payload


class Capture:
    def __init__(self):
        self.frames = []

    def add(self, at_ns, frame):
        self.frames.append((at_ns, frame))

    def write(self, path):
        with open(path, "wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 101))
            for at_ns, frame in sorted(self.frames, key=lambda it: it[0]):
                out.write(struct.pack("<IIII", at_ns // NS, at_ns % NS, len(frame), len(frame)) + frame)


class Call:
    """INVITE and 200 at 0.0 and 0.1 s, sound from 0.2 s on, BYE."""

    def __init__(self, capture, number, protocol="RTP/SAVP"):
        self.capture, self.number, self.protocol = capture, number, protocol
        self.start_ns = (1_700_000_000 + 10 * number) * NS
        self.alice, self.bob = (ALICE, 20000 + 4 * number), (BOB, 30000 + 4 * number)

    def at(self, seconds):
        return self.start_ns + round(seconds * NS)

    def sip(self, seconds, line, cseq, lines=None, by_bob=False):
        sdp = ""
        if lines is not None:
            address, port = self.bob if by_bob else self.alice
            sdp = f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} {self.protocol} 8\r\n"
            sdp += "".join(f"a={it}\r\n" for it in lines)
        to_tag = "" if line.startswith("INVITE") and cseq.startswith("1 ") else ";tag=b"
        text = (f"{line}\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{self.number}{cseq.replace(' ', '')}\r\nFrom: <sip:alice@x>;tag=a\r\n"
                f"To: <sip:bob@x>{to_tag}\r\nCall-ID: srtp-{self.number}\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\n"
                f"Content-Length: {len(sdp)}\r\n\r\n{sdp}")
        ends = ((BOB, 5060), (ALICE, 5060)) if by_bob else ((ALICE, 5060), (BOB, 5060))
        self.capture.add(self.at(seconds), udp(*ends, text.encode()))

    def set_up(self, offer, answer):
        self.sip(0.0, "INVITE sip:bob@x SIP/2.0", "1 INVITE", offer)
        self.sip(0.1, "SIP/2.0 200 OK", "1 INVITE", answer, by_bob=True)
        self.sip(0.11, "ACK sip:bob@x SIP/2.0", "1 ACK")

    def end(self):
        self.sip(0.4 + SECONDS, "BYE sip:bob@x SIP/2.0", "9 BYE")
        self.sip(0.41 + SECONDS, "SIP/2.0 200 OK", "9 BYE", by_bob=True)

    def talk(self, alice, bob, first_seq=100):
        """`alice`, `bob`: make the packet on the wire of an RTP packet and its number."""
        for number in range(SECONDS * 50):
            for by_bob, protect in ((False, alice), (True, bob)):
                pitch, ssrc = (700, 0xB0B) if by_bob else (400, 0xA11CE)
                seq = (first_seq + number) & 0xFFFF
                packet = struct.pack("!BBHII", 0x80, 8, seq, number * 160, ssrc) + sound(pitch, number)
                self.media(0.2 + number * 0.02, by_bob, protect(packet, number))

    def media(self, seconds, by_bob, payload):
        ends = (self.bob, self.alice) if by_bob else (self.alice, self.bob)
        self.capture.add(self.at(seconds), udp(*ends, payload))


def crypto(tag, suite, material, rest=""):
    return f"crypto:{tag} {suite} inline:{base64.b64encode(material).decode()}{rest}"


def pair(suite, **options):
    return (Sender(suite, random_key(suite), 0xA11CE, **options), Sender(suite, random_key(suite), 0xB0B, **options))


def sdes(call, suite, rest="", first_seq=100, **options):
    """Two lines in the offer, of which the second is accepted."""
    alice, bob = pair(suite, **options)
    spare = random_key("AES_CM_128_HMAC_SHA1_80")
    offer = [crypto(1, "AES_CM_128_HMAC_SHA1_80", spare), crypto(2, suite, alice.material, rest)]
    call.set_up(offer, [crypto(2, suite, bob.material, rest)])
    call.talk(lambda packet, _: alice.rtp(packet), lambda packet, _: bob.rtp(packet), first_seq)
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 0xA11CE, 0x83AA7E80, 0, 0, 150, 24000)
    report += struct.pack("!BBHI", 0x81, 202, 2, 0xA11CE) + bytes([1, 2]) + b"al"
    call.media(3.0, False, alice.rtcp(report))


def late(call, suite):
    """The third counter's end: the beginning was not captured."""
    sdes(call, suite, first_seq=65_450, roc=2)


def rekeyed(call, suite):
    (alice, bob), (alice_2, bob_2) = pair(suite), pair(suite)
    call.set_up([crypto(1, suite, alice.material)], [crypto(1, suite, bob.material)])
    call.sip(1.5, "INVITE sip:bob@x SIP/2.0", "2 INVITE", [crypto(1, suite, alice_2.material)])
    call.sip(1.6, "SIP/2.0 200 OK", "2 INVITE", [crypto(1, suite, bob_2.material)], by_bob=True)
    call.talk(lambda packet, number: (alice if number < 73 else alice_2).rtp(packet),
              lambda packet, number: (bob if number < 70 else bob_2).rtp(packet))


def beside(call, accepted):
    """Keys in RTP/AVP (RFC 8643): taken, or not."""
    suite = "AES_CM_128_HMAC_SHA1_80"
    alice, bob = pair(suite)
    call.set_up([crypto(1, suite, alice.material)], [crypto(1, suite, bob.material)] if accepted else [])
    plain = lambda packet, _: packet
    call.talk(*((lambda packet, _: alice.rtp(packet), lambda packet, _: bob.rtp(packet)) if accepted else (plain, plain)))


def locked(call, lines):
    """SRTP of keys that no SDP has."""
    alice, bob = pair("AES_CM_128_HMAC_SHA1_80")
    call.set_up(lines, lines)
    call.talk(lambda packet, _: alice.rtp(packet), lambda packet, _: bob.rtp(packet))


def zrtp(call):
    """Hellos in the clear, and media too, up to Confirm2."""
    call.set_up([], [])
    alice, bob = pair("AES_CM_128_HMAC_SHA1_32")

    def message(seconds, by_bob, kind):
        text = struct.pack("!BBHIIHH", 0x10, 0, 1, 0x5A525450, 0xB0B if by_bob else 0xA11CE, 0x505A, 3) + kind + bytes(4)
        call.media(seconds, by_bob, text)

    for at, by_bob, kind in ((0.15, False, b"Hello   "), (0.16, True, b"Hello   "), (0.17, True, b"HelloACK"), (1.1, False, b"Commit  "),
                             (1.15, True, b"Confirm1"), (1.19, False, b"Confirm2"), (1.195, True, b"Conf2ACK")):
        message(at, by_bob, kind)
    call.talk(lambda packet, number: packet if number < 50 else alice.rtp(packet),
              lambda packet, number: packet if number < 50 else bob.rtp(packet))


def handshake(folder, profile, log):
    """Datagrams of openssl's s_client and s_server, (client?, bytes) in order, and what the client exports."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-days", "2",
                    "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")], check=True, capture_output=True)
    ports = []
    relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for it in (relay, probe):
        it.bind(("127.0.0.1", 0))
        ports.append(it.getsockname()[1])
    probe.close()
    common = ["-dtls1_2", "-use_srtp", profile, "-keymatexport", "EXTRACTOR-dtls_srtp"]
    server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{ports[1]}", "-cert", str(folder / "cert.pem"), "-key",
                               str(folder / "key.pem"), "-quiet", *common], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    length = {"SRTP_AES128_CM_SHA1_80": 60, "SRTP_AEAD_AES_256_GCM": 88}[profile]
    time.sleep(0.4)
    client = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{ports[0]}", "-keylogfile", str(log), "-keymatexportlen",
                               str(length), *common], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    seen, done = [], threading.Event()

    def carry():
        here = None
        relay.settimeout(0.1)
        while not done.is_set():
            try:
                data, sender = relay.recvfrom(65535)
            except TimeoutError:
                continue
            is_client = sender[1] != ports[1]
            here = sender if is_client else here
            seen.append((is_client, data))
            relay.sendto(data, ("127.0.0.1", ports[1]) if is_client else here)

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    try:
        material, until = None, time.monotonic() + 20
        while material is None and time.monotonic() < until:
            line = client.stdout.readline()
            if line.strip().startswith("Keying material: "):
                material = bytes.fromhex(line.split(": ")[1])
        assert material is not None and len(material) == length, "no handshake"
    finally:
        done.set()
        for process in (client, server):
            process.kill()
            process.wait()
        thread.join()
    return seen, material


def dtls(call, folder, log, profile, suite):
    """Bob is the DTLS client, as who answers mostly is."""
    seen, material = handshake(folder, profile, log)
    fingerprint = "fingerprint:sha-256 " + ":".join(["AB"] * 32)
    call.set_up([fingerprint, "setup:actpass"], [fingerprint, "setup:active"])
    for number, (is_client, data) in enumerate(seen):
        call.media(0.12 + 0.001 * number, is_client, data)
    key_len, salt_len = SUITES[suite][1:3]
    keys, salts = material[:2 * key_len], material[2 * key_len:]
    of_client, of_server = keys[:key_len] + salts[:salt_len], keys[key_len:] + salts[salt_len:]
    alice, bob = Sender(suite, of_server, 0xA11CE), Sender(suite, of_client, 0xB0B)
    call.talk(lambda packet, _: alice.rtp(packet), lambda packet, _: bob.rtp(packet))


def main():
    folder = pathlib.Path(sys.argv[1])
    log = folder / "keys.log"
    capture, expected = Capture(), []

    def add(name, make, suite, state="stored", protocol="RTP/SAVP"):
        make(Call(capture, len(expected), protocol))
        expected.append({"name": name, "srtp": suite, "state": state})

    def finish(make):
        return lambda call: (make(call), call.end())

    cm_80 = "AES_CM_128_HMAC_SHA1_80"
    plain = lambda packet, _: packet
    add("plain", finish(lambda call: (call.set_up([], []), call.talk(plain, plain))), None, protocol="RTP/AVP")
    for suite in SUITES:
        add(suite, finish(lambda call: sdes(call, suite)), suite)
    add("mki", finish(lambda call: sdes(call, cm_80, "|2^20|66051:4", mki=bytes([0, 1, 2, 3]))), cm_80)
    add("mki with GCM", finish(lambda call: sdes(call, "AEAD_AES_256_GCM", "|7:1", mki=b"\x07")), "AEAD_AES_256_GCM")
    add("unencrypted", finish(lambda call: sdes(call, cm_80, " UNENCRYPTED_SRTP UNENCRYPTED_SRTCP", unencrypted=True)), cm_80)
    add("late", finish(lambda call: late(call, cm_80)), cm_80)
    add("late with GCM", finish(lambda call: late(call, "AEAD_AES_128_GCM")), "AEAD_AES_128_GCM")
    add("rekeyed", finish(lambda call: rekeyed(call, cm_80)), cm_80)
    add("rekeyed with 32-bit tags", finish(lambda call: rekeyed(call, "AES_CM_128_HMAC_SHA1_32")), "AES_CM_128_HMAC_SHA1_32")
    add("beside RTP/AVP", finish(lambda call: beside(call, True)), cm_80, protocol="RTP/AVP")
    add("offered and not taken", finish(lambda call: beside(call, False)), None, protocol="RTP/AVP")
    add("DTLS", finish(lambda call: dtls(call, folder, log, "SRTP_AES128_CM_SHA1_80", cm_80)), cm_80, protocol="UDP/TLS/RTP/SAVP")
    add("DTLS with GCM", finish(lambda call: dtls(call, folder, log, "SRTP_AEAD_AES_256_GCM", "AEAD_AES_256_GCM")), "AEAD_AES_256_GCM", protocol="UDP/TLS/RTP/SAVPF")
    other = [crypto(1, cm_80, random_key(cm_80))]
    add("of another key", finish(lambda call: locked(call, other)), None, "raw")
    add("of a suite that cannot be used", finish(lambda call: locked(call, [crypto(1, "F8_128_HMAC_SHA1_80", random_key(cm_80))])), None, "raw")
    add("disguised", finish(lambda call: locked(call, [])), None, "raw", "RTP/AVP")
    add("ZRTP", finish(zrtp), None, "stored", "RTP/AVP")
    capture.write(folder / "calls.pcap")
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
