#!/usr/bin/env python3
"""Writes a capture of N calls at once, each of which says something that only it says.

    synth_calls.py N OUT.pcap [--seconds S] [options]

Call n is +48200nnnnnn calling +48300nnnnnn, PCMA when n is even and PCMU when it is odd; what its two
sides say is in tones.py, and synth_check.py tells it back from a recording. Standard library only;
the same arguments and seed give the same bytes.
"""
import argparse
import random

import tones
import wire

BEGIN_NS = 1_764_000_000 * 10**9


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calls", type=int)
    parser.add_argument("output")
    parser.add_argument("--seconds", type=float, default=6, help="speech per call")
    parser.add_argument("--stagger-ms", type=float, default=1, help="between the starts of two calls")
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--loss", type=float, default=0, help="%% of the RTP packets that never come")
    parser.add_argument("--reorder", type=float, default=0, help="%% of the RTP packets that come 45 ms late")
    parser.add_argument("--duplicate", type=float, default=0, help="%% of the frames that come twice, 30 us apart")
    parser.add_argument("--jitter-ms", type=float, default=0, help="every RTP packet is late by up to this")
    parser.add_argument("--no-bye", action="store_true", help="calls just stop")
    parser.add_argument("--same-ports", action="store_true",
                        help="all calls use one pair of ports (give --stagger-ms longer than the calls)")
    parser.add_argument("--same-ssrc", action="store_true", help="all streams have one SSRC")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def addresses(call, same_ports):
    """((caller, callee) of signalling, the same of media): few hosts, many ports, as gateways have it."""
    host = 0 if same_ports else call
    port = 10_000 + 2 * (host % 25_000)
    hosts = (f"10.20.{host % 7}.{1 + host % 200}", f"10.30.{host % 5}.{1 + host % 150}")
    return tuple((address, 5060) for address in hosts), tuple((address, port) for address in hosts)


def media(options, call, ports, answer_ns, dice, payload_type, table):
    """All RTP frames of a call with their capture times."""
    frames = int(options.seconds * 50)
    for side in (0, 1):
        ssrc = 0x5EED5EED if options.same_ssrc else dice.getrandbits(32)
        stream = wire.RtpStream(ports[side], ports[1 - side], ssrc, payload_type, dice.getrandbits(16), dice.getrandbits(32))
        digits = tones.digits_of(tones.value_of(call, side))
        spoken = [table[place, digit] for place, digit in enumerate(digits) for _ in range(tones.FRAMES_PER_SYMBOL)]
        first_ns = answer_ns + tones.first_media_ns(call, side)
        for number in range(frames):
            when = first_ns + number * 20_000_000
            if options.loss and dice.random() * 100 < options.loss:
                continue
            if options.jitter_ms:
                when += int(dice.random() * options.jitter_ms * 1_000_000)
            if options.reorder and dice.random() * 100 < options.reorder:
                when += 45_000_000
            yield when, stream.frame(number, spoken[number % len(spoken)], marker=number == 0)


def main():
    options = arguments()
    dice = random.Random(options.seed)
    table = {kind: {(place, digit): wire.encode(tones.frame(place, digit), kind)
                    for place in range(6) for digit in range(16)} for kind in wire.NAMES}
    frames = []
    for index in range(options.calls):
        call = options.first + index
        payload_type = 8 if call % 2 == 0 else 0
        signalling, ports = addresses(call, options.same_ports)
        dialog = wire.Dialog(f"synth-{options.seed}-{call}", f"+48200{call:06}", f"+48300{call:06}", signalling, ports, payload_type)
        answer_ns = BEGIN_NS + int(index * options.stagger_ms * 1_000_000)
        frames += dialog.opening(answer_ns)
        frames += media(options, call, ports, answer_ns, dice, payload_type, table[payload_type])
        if not options.no_bye:
            frames += dialog.ending(answer_ns + int(options.seconds * 1e9) + 100_000_000)
    if options.duplicate:
        frames += [(when + 30_000, frame) for when, frame in frames if dice.random() * 100 < options.duplicate]
    frames.sort(key=lambda item: item[0])
    with open(options.output, "wb", buffering=1 << 20) as file:
        file.write(wire.PCAP_HEADER)
        for when, frame in frames:
            file.write(wire.record(when, frame))
    print(f"{len(frames)} frames")


if __name__ == "__main__":
    main()
