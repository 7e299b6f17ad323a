"""SIP telephones and a switch that do to the letter what a scene tells them, each in its namespace.

What baresip cannot do (attended transfers, a B2BUA, most SRTP offers) is played by these. All of a
scene's phones live in one process and one loop, so that a scene is a list of steps; each phone's sockets
are opened in its own network namespace. They speak real RTP: encoded frames from a file, one a packet.
Not for production: what they do not expect, they do not answer. Sources: RFC 3261, 3264 (hold), 3515
(REFER), 3891 (Replaces), 3550, 4568 (a=crypto). Standard library only, but SRTP; needs root.
"""
import collections
import ctypes
import os
import re
import select
import socket
import struct
import time
import urllib.parse

from pipes import PORTS, Pipe

CLONE_NEWNET = 0x40000000

Codec = collections.namedtuple("Codec", "payload_type name clock_hz frame_bytes frame_s")
CODECS = {codec.name: codec for codec in (
    Codec(8, "PCMA", 8000, 160, 0.02), Codec(18, "G729", 8000, 20, 0.02), Codec(4, "G723", 8000, 24, 0.03), Codec(97, "speex", 8000, 38, 0.02))}


def socket_in(namespace, address, port, kind=socket.SOCK_DGRAM):
    """A socket of another network namespace, bound there."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        opened.bind((address, port))
        return opened
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)


class Message:
    """A SIP message taken apart as far as the phones need it."""

    def __init__(self, data):
        head, _, self.body = data.decode().partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        self.status = int(self.start.split()[1]) if self.start.startswith("SIP/2.0") else None
        self.call_id = self["Call-ID"]
        self.sequence, self.method = self["CSeq"].split()

    def __getitem__(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def tag(self, name):
        found = re.search(r";tag=([^;>\s]+)", self[name])
        return found.group(1) if found else ""

    def media(self):
        """Where the sender of this SDP wants media, and in which direction it flows."""
        host = re.search(r"^c=IN IP[46] (\S+)", self.body, re.M).group(1)
        port = int(re.search(r"^m=audio (\d+)", self.body, re.M).group(1))
        direction = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)\r?$", self.body, re.M)
        return (host, port), direction.group(1) if direction else "sendrecv"


ANSWERS = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


class Leg:
    """One dialog of a phone, with its RTP socket."""

    def __init__(self, phone, call_id, peer_uri, peer):
        self.phone, self.call_id, self.peer_uri, self.peer = phone, call_id, peer_uri, peer
        self.tag = f"{phone.host}{len(phone.legs)}tag{call_id[:6]}"
        self.remote_tag, self.calls, self.sequence, self.version = "", True, 0, 0
        self.direction, self.remote_media, self.talks = "sendrecv", None, False
        self.port = 20_000 + 2 * len(phone.legs)
        self.rtp = socket_in(phone.namespace, phone.address, self.port)
        self.packet, self.ssrc = 0, phone.scene.number()
        self.suite, self.crypto, self.sealed = phone.suite, None, None
        self.first = 0xFFFF - 150  # the sequence number wraps after three seconds: with SRTP, the roll-over count steps
        self.relay = None  # the leg that gets what this one hears
        self.on_answer = self.invite = None

    def rekey(self, parameters=""):
        """A new master key, announced by the next SDP and used from now on."""
        import srtp
        key_len, salt_len = srtp.SUITES[self.suite][:2]
        key = b"".join(struct.pack("!I", self.phone.scene.number()) for _ in range(16))[:key_len + salt_len]
        self.crypto = srtp.line(self.suite, key, parameters)
        fresh = srtp.Stream(*srtp.parse(self.crypto))
        if self.sealed:  # the roll-over count goes on (RFC 3711, section 3.3.1)
            fresh.roc, fresh.last = self.sealed.roc, self.sealed.last
        self.sealed = fresh

    def sdp(self):
        if self.suite and not self.crypto:
            self.rekey(self.phone.key_parameters)
        self.version += 1
        family, codec = 6 if ":" in self.phone.address else 4, self.phone.scene.codec
        return (f"v=0\r\no={self.phone.host} 7 {self.version} IN IP{family} {self.phone.address}\r\ns=-\r\n"
                f"c=IN IP{family} {self.phone.address}\r\nt=0 0\r\n"
                f"m=audio {self.port} RTP/{'SAVP' if self.suite else 'AVP'} {codec.payload_type}\r\n"
                f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_hz}\r\na=ptime:{round(1000 * codec.frame_s)}\r\na={self.direction}\r\n"
                + (f"a=crypto:{self.crypto}\r\n" if self.suite else ""))

    def request(self, method, headers="", body="", sequence=None):
        """Sends a request of this dialog."""
        if sequence is None:
            self.sequence += 1
        me, far = f"{self.phone.uri};tag={self.tag}", self.peer_uri + (f";tag={self.remote_tag}" if self.remote_tag else "")
        self.phone.send(f"{method} {self.peer_uri.strip('<>').split('>')[0]} SIP/2.0\r\n"
                        f"Via: SIP/2.0/{self.phone.transport} {self.phone.where};branch=z9hG4bK{self.call_id}{method}{sequence or self.sequence}\r\n"
                        f"Max-Forwards: 70\r\nFrom: {me}\r\nTo: {far}\r\nCall-ID: {self.call_id}\r\n"
                        f"CSeq: {sequence or self.sequence} {method}\r\n{headers}", body, self.peer, self.phone.uri)

    def offer(self, headers="", direction="sendrecv"):
        """INVITE or re-INVITE."""
        self.direction = direction
        self.request("INVITE", headers, self.sdp())

    def answered(self, message):
        """The 2xx to our INVITE."""
        self.remote_tag = message.tag("To")
        self.remote_media, self.direction = message.media()[0], ANSWERS[message.media()[1]]
        self.request("ACK", sequence=int(message.sequence))
        self.talks = True
        if self.on_answer:
            self.on_answer()
            self.on_answer = None

    def accept(self, message):
        """200 to an INVITE, as the direction that it offers wants it."""
        self.remote_media, offered = message.media()
        self.direction = ANSWERS[offered]
        self.phone.reply(message, "200 OK", self.tag, self.sdp())

    def bye(self):
        self.request("BYE")
        self.talks = False

    def replaces(self):
        """This dialog as a Replaces header of the far end's peer names it (the tags as the far end has them)."""
        return f"{self.call_id};to-tag={self.remote_tag};from-tag={self.tag}"

    def tick(self):
        """The next frame of speech, if we are to speak."""
        if not self.talks or self.relay or self.direction in ("recvonly", "inactive"):
            return
        self.send_frame(self.phone.speech())

    def send_frame(self, payload):
        scene, codec = self.phone.scene, self.phone.scene.codec
        self.packet += 1
        header = struct.pack("!BBHII", 0x80, codec.payload_type, self.first + self.packet & 0xFFFF,
                             scene.frame * round(codec.frame_s * codec.clock_hz), self.ssrc)
        self.rtp.sendto(self.sealed.protect(header, payload) if self.sealed else header + payload, self.remote_media)

    def hear(self):
        """What came in on the RTP socket: a switch sends it on, with its own SSRC."""
        data = self.rtp.recv(2048)
        if self.relay and self.relay.remote_media:
            self.relay.send_frame(data[12:])


class Phone:
    """Answers at once, follows REFER and Replaces, speaks as long as a leg is up."""

    def __init__(self, scene, host, number, name, address, voice=b""):
        self.scene, self.host, self.number, self.address = scene, host, number, address
        self.namespace, self.transport, self.legs = f"{scene.prefix}-{host}", "UDP", []
        bracketed = f"[{address}]" if ":" in address else address
        self.where = f"{bracketed}:5060"
        self.uri, self.address_of_record = f'"{name}" <sip:{number}@{bracketed}>', f"<sip:{number}@{bracketed}>"
        self.sip = socket_in(self.namespace, address, 5060)
        self.listener, self.context, self.pipes = None, None, []
        self.voice, self.spoken, self.suite, self.key_parameters = voice, 0, None, ""
        scene.phones.append(self)

    def over(self, transport, context=None, server=False):
        """From now on SIP goes over connections: this phone waits for them, or makes one a call."""
        self.transport, self.context = transport, context
        if server:
            self.listener = socket_in(self.namespace, self.address, PORTS[transport], socket.SOCK_STREAM)
            self.listener.listen()

    def connect(self, address):
        """Where to send SIP to an address."""
        if self.transport == "UDP":
            return address, 5060
        connection = socket_in(self.namespace, self.address, 0, socket.SOCK_STREAM)
        connection.connect((address, PORTS[self.transport]))
        self.pipes.append(Pipe(connection, "client", self.transport, self.context))
        return self.pipes[-1]

    def accept(self):
        self.pipes.append(Pipe(self.listener.accept()[0], "server", self.transport, self.context))

    def speech(self):
        """The next frame of this phone's voice, which goes on from leg to leg."""
        size = self.scene.codec.frame_bytes
        at = self.spoken % (len(self.voice) // size) * size
        self.spoken += 1
        return self.voice[at:at + size]

    def send(self, head, body, to, contact):
        kind = "Content-Type: application/sdp\r\n" if body.startswith("v=0") else "Content-Type: message/sipfrag;version=2.0\r\n" if body else ""
        data = f"{head}Contact: {re.search('<.*>', contact).group()}\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        if isinstance(to, Pipe):
            to.send(data)
        else:
            self.sip.sendto(data, to)

    def reply(self, message, status, tag="", body=""):
        to = message["To"] + (f";tag={tag}" if tag and not message.tag("To") else "")
        vias = "".join(f"Via: {value}\r\n" for key, value in message.headers if key == "Via")
        self.send(f"SIP/2.0 {status}\r\n{vias}From: {message['From']}\r\nTo: {to}\r\nCall-ID: {message.call_id}\r\n"
                  f"CSeq: {message['CSeq']}\r\n", body, message.sender, self.uri)

    def call(self, number, address, headers=""):
        """A new leg; its INVITE is on the wire."""
        bracketed = f"[{address}]" if ":" in address else address
        leg = Leg(self, f"{self.scene.number():08x}@{self.host}", f"<sip:{number}@{bracketed}>", self.connect(address))
        self.legs.append(leg)
        leg.offer(headers)
        return leg

    def handle(self, data, sender):
        message = Message(data)
        message.sender = sender
        leg = next((leg for leg in self.legs if leg.call_id == message.call_id), None)
        if message.status is None:
            getattr(self, "on_" + message.method.lower())(message, leg)
        elif message.method == "INVITE" and 200 <= message.status < 300:
            leg.answered(message)
        elif message.status >= 300:
            self.scene.fail(f"{self.host} got {message.start} to {message.method}")

    def on_invite(self, message, leg):
        if leg:
            leg.accept(message)
            return
        leg = Leg(self, message.call_id, re.sub(r";tag=.*", "", message["From"]).split(" ")[-1], message.sender)
        leg.remote_tag, leg.calls, leg.invite = message.tag("From"), False, message
        self.legs.append(leg)
        self.reply(message, "180 Ringing", leg.tag)
        self.ring(leg)

    def ring(self, leg):
        """What a phone does with a new call; a switch calls on instead."""
        replaced = leg.invite["Replaces"].split(";")[0]
        self.scene.after(0.05 if replaced else 0.2, lambda: leg.accept(leg.invite))
        for old in self.legs:
            if replaced and old.call_id == replaced:
                self.scene.after(0.1, old.bye)

    def on_ack(self, _message, leg):
        leg.talks = True

    def on_bye(self, message, leg):
        leg.talks = False
        self.reply(message, "200 OK")

    def on_notify(self, message, leg):
        self.reply(message, "200 OK")
        if " 200 " in message.body:  # the transfer is through: our part in it ends
            leg.bye()

    def on_refer(self, message, leg):
        self.reply(message, "202 Accepted")
        target = message["Refer-To"].strip("<>")
        uri, _, query = target.partition("?")
        replaces = urllib.parse.parse_qs(query).get("Replaces", [""])[0]
        number, address = re.match(r"sip:([^@]+)@\[?([^\]>]+)", uri).groups()
        self.tell(leg, "100 Trying")
        fresh = self.call(number, address, f"Referred-By: {message['Referred-By']}\r\n" + (f"Replaces: {replaces}\r\n" if replaces else ""))
        leg.talks = False
        fresh.on_answer = lambda: self.tell(leg, "200 OK")

    def tell(self, leg, status):
        leg.request("NOTIFY", f"Event: refer\r\nSubscription-State: active\r\n", f"SIP/2.0 {status}\r\n")


class Switch(Phone):
    """A B2BUA: calls `onward` for whoever calls, as the same caller, and relays the media."""

    def __init__(self, scene, host, address, onward):
        super().__init__(scene, host, "switch", "Switch", address)
        self.onward = onward

    def ring(self, leg):
        name = re.match(r'"([^"]*)" <sip:([^@]+)@', leg.invite["From"])
        self.uri = f'"{name.group(1)}" <sip:{name.group(2)}@{self.address}>'
        out = self.call(*self.onward)
        leg.relay, out.relay = out, leg
        out.on_answer = lambda: leg.accept(leg.invite)

    def on_bye(self, message, leg):
        super().on_bye(message, leg)
        if leg.relay.talks:
            leg.relay.bye()


class Scene:
    """The loop: sockets, timers, and a frame of every voice each frame's time."""

    def __init__(self, prefix, codec):
        self.prefix, self.codec = prefix, CODECS[codec]
        self.phones, self.timers, self.frame, self.drawn = [], [], 0, 0x5EED
        self.began = time.monotonic()

    def number(self):
        """The next number of a fixed row: the same in every run."""
        self.drawn = (self.drawn * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        return self.drawn

    def fail(self, why):
        raise SystemExit(f"scene: {why}")

    def after(self, seconds, action):
        self.timers.append((time.monotonic() + seconds, action))

    def wait(self, seconds):
        """Lets the phones do what they do for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = [action for when, action in self.timers if when <= now]
            self.timers = [timer for timer in self.timers if timer[0] > now]
            for action in due:
                action()
            while self.began + self.frame * self.codec.frame_s <= now:
                for phone in self.phones:
                    for leg in phone.legs:
                        leg.tick()
                self.frame += 1
            self.listen(min(end, self.began + self.frame * self.codec.frame_s, *[when for when, _ in self.timers]) - time.monotonic())

    def listen(self, seconds):
        owners = {}
        for phone in self.phones:
            owners |= {phone.sip: phone} | {pipe: phone for pipe in phone.pipes} | {leg.rtp: leg for leg in phone.legs}
            if phone.listener:
                owners[phone.listener] = phone
        for ready in select.select(list(owners), [], [], max(seconds, 0))[0]:
            owner = owners[ready]
            if isinstance(owner, Leg):
                owner.hear()
            elif ready is owner.listener:
                owner.accept()
            elif isinstance(ready, Pipe):
                for data in ready.receive():
                    owner.handle(data, ready)
            else:
                data, sender = ready.recvfrom(65_536)
                owner.handle(data, sender[:2])
