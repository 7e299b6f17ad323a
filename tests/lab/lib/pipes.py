"""SIP of the lab's phones over a connection: TCP, TLS with a key log, WebSocket, and WebSocket in TLS.

Both ends of a connection may be in one process, so nothing here waits: TLS runs on memory buffers, and what is sent
before a handshake is through waits for it. Sources: RFC 3261 (18.3, framing by Content-Length), RFC 6455 and 7118
(WebSocket), RFC 9850 (key log). Standard library only.
"""
import base64
import hashlib
import os
import re
import ssl
import struct

PORTS = {"TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def tls_context(side, version, certificate, keylog):
    """A TLS end that speaks one version only; the client's writes the key log."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side == "server" else ssl.PROTOCOL_TLS_CLIENT)
    if side == "server":
        context.load_cert_chain(certificate)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.keylog_filename = keylog
    context.minimum_version = context.maximum_version = version
    return context


class Pipe:
    """One end of a connection. `transport` as Via has it; `context` for TLS and WSS."""

    def __init__(self, connection, side, transport, context=None):
        self.connection, self.side = connection, side
        self.outgoing, self.incoming, self.tls = ssl.MemoryBIO(), ssl.MemoryBIO(), None
        if context:
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=side == "server")
        self.framed = transport in ("WS", "WSS")
        self.secure, self.upgraded = context is None, not self.framed
        self.waiting, self.heard = [], b""
        if self.framed and side == "client":
            self.write(b"GET /sip HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
                       + base64.b64encode(bytes(range(16))) + b"\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n")
        self.flush()

    def fileno(self):
        return self.connection.fileno()

    def send(self, message):
        """A SIP message, now or as soon as the handshakes are through."""
        if self.upgraded:
            self.write(self.frame(message) if self.framed else message)
        else:
            self.waiting.append(message)

    def frame(self, message):
        """A text frame; a client masks it."""
        mask = os.urandom(4) if self.side == "client" else b""
        length = len(message)
        size = bytes([length]) if length < 126 else struct.pack("!BH", 126, length)
        head = b"\x81" + bytes([size[0] | (0x80 if mask else 0)]) + size[1:]
        return head + mask + (bytes(byte ^ mask[at & 3] for at, byte in enumerate(message)) if mask else message)

    def write(self, data):
        """Bytes of the layer above TLS."""
        if not self.tls:
            self.connection.sendall(data)
        elif self.secure:
            self.tls.write(data)
            self.flush()
        else:
            self.waiting.insert(0, data) if data.startswith(b"GET ") else self.waiting.append(data)

    def flush(self):
        """Brings the TLS handshake on, and what TLS wants sent onto the wire."""
        if self.tls and not self.secure:
            try:
                self.tls.do_handshake()
                self.secure = True
            except ssl.SSLWantReadError:
                pass
        if self.outgoing.pending:
            self.connection.sendall(self.outgoing.read())
        if self.secure and self.waiting:
            waiting, self.waiting = self.waiting, []
            for data in waiting:
                self.write(data) if data.startswith(b"GET ") else self.send(data)

    def receive(self):
        """The SIP messages that have come in whole."""
        data = self.connection.recv(65_536)
        if self.tls:
            self.incoming.write(data)
            self.flush()
            data = b""
            while self.secure:
                try:
                    data += self.tls.read(65_536)
                except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    break
        self.heard += data
        if not self.upgraded:
            self.upgrade()
        return self.frames() if self.framed else self.messages()

    def upgrade(self):
        """HTTP's part of WebSocket."""
        head, found, rest = self.heard.partition(b"\r\n\r\n")
        if not found:
            return
        self.heard, self.upgraded = rest, True
        if self.side == "server":
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head).group(1)
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            self.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                       + accept + b"\r\nSec-WebSocket-Protocol: sip\r\n\r\n")
        self.flush()

    def frames(self):
        """Whole frames of what was heard, unmasked."""
        whole = []
        while self.upgraded and len(self.heard) >= 4:
            size, at = self.heard[1] & 127, 2
            if size == 126:
                size, at = struct.unpack_from("!H", self.heard, 2)[0], 4
            mask = self.heard[at:at + 4] if self.heard[1] & 128 else b""
            at += len(mask)
            if len(self.heard) < at + size:
                break
            body, self.heard = self.heard[at:at + size], self.heard[at + size:]
            whole.append(bytes(byte ^ mask[index & 3] for index, byte in enumerate(body)) if mask else body)
        return whole

    def messages(self):
        """Whole messages of what was heard, by Content-Length."""
        whole = []
        while (end := self.heard.find(b"\r\n\r\n")) >= 0:
            length = end + 4 + int(re.search(rb"Content-Length: *(\d+)", self.heard[:end]).group(1))
            if len(self.heard) < length:
                break
            whole.append(self.heard[:length])
            self.heard = self.heard[length:]
        return whole
