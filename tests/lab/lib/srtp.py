"""SRTP for the lab's phones, and to open what others sent: written from the RFCs, apart from callspan.

Sources: RFC 3711 (AES-CM, HMAC-SHA1, key derivation with rate 0), RFC 6188 (AES-256), RFC 7714 (GCM), RFC 4568
(a=crypto). baresip's own packets open with it, which is its test. Needs python3-cryptography.
"""
import base64
import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# Octets of key, salt and tag; GCM or not.
SUITES = {"AES_CM_128_HMAC_SHA1_80": (16, 14, 10, False), "AES_CM_128_HMAC_SHA1_32": (16, 14, 4, False),
          "AES_256_CM_HMAC_SHA1_80": (32, 14, 10, False), "AES_256_CM_HMAC_SHA1_32": (32, 14, 4, False),
          "AEAD_AES_128_GCM": (16, 12, 16, True), "AEAD_AES_256_GCM": (32, 12, 16, True)}


def ctr(key, counter, data):
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(data)


def xor(one, other):
    return bytes(left ^ right for left, right in zip(one, other))


class Stream:
    """One direction under one master key. `mki` is what stands in each packet to name that key, or nothing."""

    def __init__(self, suite, key_and_salt, mki=b""):
        key_len, salt_len, self.tag_len, self.gcm = SUITES[suite]
        if len(key_and_salt) != key_len + salt_len:
            raise ValueError(f"{suite} needs {key_len + salt_len} octets, not {len(key_and_salt)}")
        self.mki, self.roc, self.last = mki, 0, None
        master, salt = key_and_salt[:key_len], key_and_salt[key_len:].ljust(14, b"\0")

        def derived(label, length):
            return ctr(master, xor(salt, bytes(7) + bytes([label]) + bytes(6)) + b"\0\0", bytes(length))

        self.key, self.auth, self.salt = derived(0, key_len), derived(1, 20), derived(2, salt_len)

    def rolled(self, sequence):
        """The roll-over count of a packet that comes in about the order of sending."""
        if self.last is not None and self.last - sequence > 0x8000:
            self.roc += 1
        self.last = sequence
        return self.roc

    def cipher(self, header, roc, data):
        counter = bytes(4) + header[8:12] + struct.pack("!I", roc) + header[2:4] + b"\0\0"
        return ctr(self.key, xor(self.salt + b"\0\0", counter), data)

    def nonce(self, header, roc):
        return xor(self.salt, b"\0\0" + header[8:12] + struct.pack("!I", roc) + header[2:4])

    def signature(self, packet, roc):
        return hmac.new(self.auth, packet + struct.pack("!I", roc), hashlib.sha1).digest()[:self.tag_len]

    def protect(self, header, payload):
        """An SRTP packet of a header without CSRC and extension."""
        roc = self.rolled(struct.unpack_from("!H", header, 2)[0])
        if self.gcm:
            return header + AESGCM(self.key).encrypt(self.nonce(header, roc), payload, header) + self.mki
        packet = header + self.cipher(header, roc, payload)
        return packet + self.mki + self.signature(packet, roc)

    def open(self, packet):
        """The RTP packet inside, or nothing if it is not authentic."""
        at = 12 + 4 * (packet[0] & 15)
        if packet[0] & 16:
            at += 4 + 4 * struct.unpack_from("!H", packet, at + 2)[0]
        header, roc = packet[:at], self.rolled(struct.unpack_from("!H", packet, 2)[0])
        if self.gcm:
            try:
                return header + AESGCM(self.key).decrypt(self.nonce(header, roc), packet[at:len(packet) - len(self.mki)], header)
            except InvalidTag:
                return None
        end = len(packet) - self.tag_len - len(self.mki)
        if not hmac.compare_digest(self.signature(packet[:end], roc), packet[len(packet) - self.tag_len:]):
            return None
        return header + self.cipher(header, roc, packet[at:end])


# The profiles of DTLS-SRTP (RFC 5764 §4.1.2, RFC 7714 §14.2).
PROFILES = {1: "AES_CM_128_HMAC_SHA1_80", 2: "AES_CM_128_HMAC_SHA1_32", 7: "AEAD_AES_128_GCM", 8: "AEAD_AES_256_GCM"}


def exported(profile, master, client_random, server_random, digest=hashlib.sha256):
    """(suite, key and salt) of the client and of the server of a DTLS 1.2 handshake (RFC 5705 §4, RFC 5764 §4.2, RFC 5246 §5)."""
    suite = PROFILES[profile]
    key_len, salt_len = SUITES[suite][:2]
    seed = b"EXTRACTOR-dtls_srtp" + client_random + server_random
    block, step = b"", seed
    while len(block) < 2 * (key_len + salt_len):
        step = hmac.new(master, step, digest).digest()
        block += hmac.new(master, step + seed, digest).digest()
    salts = block[2 * key_len:]
    return [(suite, block[at * key_len:(at + 1) * key_len] + salts[at * salt_len:(at + 1) * salt_len]) for at in (0, 1)]


def parse(line):
    """(suite, key and salt, MKI) of a crypto attribute's value."""
    _, suite, rest = line.split()[:3]
    key, *parameters = rest.removeprefix("inline:").split("|")
    mki = next((parameter.split(":") for parameter in parameters if ":" in parameter), None)
    return suite, base64.b64decode(key), int(mki[0]).to_bytes(int(mki[1]), "big") if mki else b""


def line(suite, key_and_salt, parameters=""):
    return f"1 {suite} inline:{base64.b64encode(key_and_salt).decode()}{parameters}"
