"""The SIP connections of a capture, carried otherwise: over TLS, WebSocket, both, or HEP over TCP. Media stays as it is.

    python3 tests/lab/rewrap.py IN.pcap OUT.pcap HOW [KEYS.log]      HOW: tls1.2 tls1.3 ws ws-deflate wss hep

For a classic little-endian Ethernet capture whose TCP is in order, as tests/captures has them: each segment's bytes are
sent anew at its own time, by OpenSSL's two ends in memory where there is TLS. Checksums are left zero.
Standard library and the openssl program only.
"""
import os
import pathlib
import ssl
import struct
import subprocess
import sys
import tempfile
import zlib

SEGMENT = 1400
KEY = bytes(range(16))


def ends(keys_path, version, folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=sip.test",
                    "-days", "2", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"], check=True, capture_output=True)
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
    client.keylog_filename = str(keys_path)
    return client, server


class Tls:
    def __init__(self, contexts):
        self.sent, self.received = [ssl.MemoryBIO(), ssl.MemoryBIO()], [ssl.MemoryBIO(), ssl.MemoryBIO()]
        self.ends = [contexts[side].wrap_bio(self.received[side], self.sent[side], server_side=side == 1) for side in (0, 1)]

    def taken(self, side):
        data = self.sent[side].read()
        self.received[1 - side].write(data)
        return data

    def opening(self):
        done = [False, False]
        while not all(done):
            for side in (0, 1):
                try:
                    self.ends[side].do_handshake()
                    done[side] = True
                except ssl.SSLWantReadError:
                    pass
                yield side, self.taken(side)

    def said(self, side, data):
        self.ends[side].write(data)
        out = self.taken(side)
        while True:
            try:
                self.ends[1 - side].read(65536)
            except ssl.SSLWantReadError:
                return out


class WebSocket:
    """RFC 6455 with the subprotocol of RFC 7118; long messages come in fragments, with a ping between."""

    def __init__(self, deflate):
        self.packers = [zlib.compressobj(9, zlib.DEFLATED, -15) for _ in (0, 1)] if deflate else None
        self.count = 0

    def opening(self):
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if self.packers else ""
        yield 0, ("GET /ws HTTP/1.1\r\nHost: sip.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extension}Sec-WebSocket-Protocol: sip\r\n"
                  "Sec-WebSocket-Version: 13\r\n\r\n").encode()
        yield 1, ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"{extension}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n").encode()

    @staticmethod
    def frame(side, first, data):
        length = struct.pack("!B", len(data)) if len(data) < 126 else struct.pack("!BH", 126, len(data))
        if side == 1:
            return bytes([first]) + length + data
        mask = KEY[len(data) % 9:][:4]
        return bytes([first, length[0] | 0x80]) + length[1:] + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))

    def said(self, side, data):
        reserved = 0
        if self.packers:
            packer, reserved = self.packers[side], 0x40
            data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
            data = data[:-4]
        self.count += 1
        opcode = 1 + self.count % 2
        cut = len(data) // 2
        return (self.frame(side, opcode | reserved, data[:cut]) + self.frame(side, 0x89, b"still there?")
                + self.frame(side, 0, data[cut:cut + 9]) + self.frame(side, 0x80, data[cut + 9:]))


class Both:
    def __init__(self, tls, inner):
        self.tls, self.inner = tls, inner

    def opening(self):
        yield from self.tls.opening()
        for side, data in self.inner.opening():
            yield side, self.tls.said(side, data)

    def said(self, side, data):
        return self.tls.said(side, self.inner.said(side, data))


class Hep:
    """HEP3, as an agent at the client would send it to the server: one connection, both ways inside."""

    def __init__(self, addresses):
        self.addresses = addresses

    def opening(self):
        return iter(())

    def said(self, side, data, when=(0, 0)):
        (here, port), (there, other) = self.addresses[side], self.addresses[1 - side]

        def chunk(kind, value):
            return struct.pack("!HHH", 0, kind, 6 + len(value)) + value

        chunks = (chunk(1, b"\x02") + chunk(2, b"\x06") + chunk(3, here) + chunk(4, there) + chunk(7, struct.pack("!H", port))
                  + chunk(8, struct.pack("!H", other)) + chunk(9, struct.pack("!I", when[0])) + chunk(10, struct.pack("!I", when[1]))
                  + chunk(11, b"\x01") + chunk(12, struct.pack("!I", 7)) + chunk(15, data))
        return b"HEP3" + struct.pack("!H", 6 + len(chunks)) + chunks


class Connection:
    def __init__(self, frame, how, contexts):
        self.heads = {}
        client, server = (frame[26:30], port_of(frame, 0)), (frame[30:34], port_of(frame, 2))
        self.sides, self.next = [client, server], [1_000, 2_000]
        self.hep = how == "hep"
        self.how = {"ws": lambda: WebSocket(False), "ws-deflate": lambda: WebSocket(True), "hep": lambda: Hep(self.sides),
                    "wss": lambda: Both(Tls(contexts), WebSocket(False))}.get(how, lambda: Tls(contexts))()
        self.link = [frame[:12], frame[6:12] + frame[:6]]
        self.opened = False

    def segments(self, side, data, flags=0x18):
        for at in range(0, max(len(data), 1), SEGMENT):
            piece = data[at:at + SEGMENT]
            (here, port), (there, other) = self.sides[side], self.sides[1 - side]
            tcp = struct.pack("!HHIIBBHHH", port, other, self.next[side], self.next[1 - side], 0x50, flags, 65535, 0, 0) + piece
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), self.next[side] & 0xffff, 0, 64, 6, 0) + here + there
            self.next[side] = (self.next[side] + len(piece) + (flags & 3 != 0)) & 0xffffffff
            yield self.link[side] + b"\x08\x00" + ip + tcp

    def frames(self, side, data, when):
        if not self.opened:
            self.opened = True
            if not self.hep:
                yield from self.segments(0, b"", 0x02)
                yield from self.segments(1, b"", 0x12)
            for other, part in self.how.opening():
                if part:
                    yield from self.segments(other, part)
        if self.hep:
            yield from self.segments(0, self.how.said(side, data, when))
        else:
            yield from self.segments(side, self.how.said(side, data))


def port_of(frame, at):
    return struct.unpack_from("!H", frame, 34 + at)[0]


def main(source, target, how, keys=os.devnull):
    data, at, connections = pathlib.Path(source).read_bytes(), 24, {}
    out = [data[:16] + struct.pack("<I", 262144) + data[20:24]]
    with tempfile.TemporaryDirectory() as folder:
        version = ssl.TLSVersion.TLSv1_2 if how == "tls1.2" else ssl.TLSVersion.TLSv1_3
        contexts = ends(keys, version, folder)
        while at < len(data):
            seconds, fraction, length = struct.unpack_from("<III", data, at)
            frame, at = data[at + 16:at + 16 + length], at + 16 + length
            if frame[12:14] != b"\x08\x00" or frame[23] != 6:
                out.append(struct.pack("<IIII", seconds, fraction, length, length) + frame)
                continue
            payload = frame[34 + (frame[46] >> 4) * 4:14 + struct.unpack_from("!H", frame, 16)[0]]
            flow = ((frame[26:30], port_of(frame, 0)), (frame[30:34], port_of(frame, 2)))
            key = frozenset(flow)
            if key not in connections:
                connections[key] = Connection(frame, how, contexts)
            if payload:
                connection = connections[key]
                side = connection.sides.index(flow[0])
                for sent in connection.frames(side, payload, (seconds, fraction)):
                    out.append(struct.pack("<IIII", seconds, fraction, len(sent), len(sent)) + sent)
    pathlib.Path(target).write_bytes(b"".join(out))


main(*sys.argv[1:])
