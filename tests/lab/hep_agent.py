#!/usr/bin/env python3
"""Sends a capture as an agent of Homer would: every UDP datagram in HEP version 3, at its pace, with the time of now.

    hep_agent.py FILE.pcap HOST PORT

SIP is announced as protocol 1, RTP as 4, RTCP as 5. Classic pcap, Ethernet, IPv4; loopback in mind. Source: HEP/EEP
network protocol specification, revision 36. Standard library only.
"""
import socket
import struct
import sys
import time

from damage import frames, is_rtp, payload_of


def chunk(kind, body):
    return struct.pack("!HHH", 0, kind, 6 + len(body)) + body


def packet(frame, payload, when_ns):
    kind = 4 if is_rtp(payload) else 5 if payload[0] >> 6 == 2 else 1
    body = b"".join((chunk(1, b"\x02"), chunk(2, b"\x11"), chunk(3, frame[26:30]), chunk(4, frame[30:34]), chunk(7, frame[34:36]),
                     chunk(8, frame[36:38]), chunk(9, struct.pack("!I", when_ns // 10**9)), chunk(10, struct.pack("!I", when_ns % 10**9 // 1000)),
                     chunk(11, bytes([kind])), chunk(12, struct.pack("!I", 2001)), chunk(15, payload)))
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    agent, began, first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), time.time_ns(), None
    for when, frame in frames(sys.argv[1]):
        payload = payload_of(frame)
        first = first or when
        if payload:
            time.sleep(max(0, (began + when - first - time.time_ns()) / 1e9))
            agent.sendto(packet(frame, payload, began + when - first), (sys.argv[2], int(sys.argv[3])))


main()
