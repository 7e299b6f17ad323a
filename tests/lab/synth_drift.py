#!/usr/bin/env python3
"""Writes a long call between two phones whose clocks disagree.

    synth_drift.py OUT.pcap [--seconds 3600] [--ppm 200] [--jitter-ms J] [--loss P] [--vad] [--seed N]

The caller's clock is slow by half of PPM and the callee's fast by the other half, so a 20 ms packet of
the caller takes 20*(1+PPM/2e6) ms of capture time, while its RTP time advances by 160 each. What is
said is tied to capture time: k seconds after the 200 OK the caller says a rising chirp, half a second
later the callee a falling one, over faint noise. drift_check.py looks for them in the recording.
With --vad packets without a chirp are not sent (silence suppression). Standard library only.
"""
import argparse
import math
import random

import wire

BEGIN_NS = 1_764_000_000 * 10**9
CHIRP_S = 0.05
AMPLITUDE = 12_000


def chirp(at_s, side):
    """The chirp's value `at_s` seconds after its beginning: 500 to 3000 Hz, or back."""
    if not 0 <= at_s < CHIRP_S:
        return 0.0
    low, high = (500, 3000) if side == 0 else (3000, 500)
    window = math.sin(math.pi * at_s / CHIRP_S) ** 2
    return AMPLITUDE * window * math.sin(2 * math.pi * (low * at_s + (high - low) * at_s * at_s / (2 * CHIRP_S)))


def side_frames(side, options, stream, dice):
    """The RTP frames of one side with capture times in ns after the 200 OK."""
    stretch = 1 + (options.ppm / 2e6 if side == 0 else -options.ppm / 2e6)
    noise = [wire.encode([dice.randint(-30, 30) for _ in range(160)], 8) for _ in range(64)]
    begin_s = 0.012 + side * 0.004
    sent, talking = 0, False
    for number in range(int((options.seconds - begin_s) / (0.02 * stretch))):
        first_s = begin_s + number * 0.02 * stretch   # capture time of the frame's first sample
        since = (first_s - side * 0.5) % 1.0          # after the last chirp's beginning
        speaks = since < CHIRP_S or since + 0.02 * stretch > 1.0
        if options.vad and not speaks:
            talking = False
            continue
        marker, talking = not talking, True
        payload = noise[number % 64]
        if speaks:
            payload = wire.encode([dice.randint(-30, 30) + chirp(
                (first_s + sample * stretch / 8000 - side * 0.5 + 0.1) % 1.0 - 0.1, side) for sample in range(160)], 8)
        frame = stream.frame(sent, payload, marker=marker, skipped=number - sent)
        sent += 1
        if options.loss and dice.random() * 100 < options.loss:
            continue
        # By the project's convention a packet's first sample stands where the packet was captured.
        yield int((first_s + dice.random() * options.jitter_ms / 1000) * 1e9), frame


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--ppm", type=float, default=200, help="how far apart the two clocks are")
    parser.add_argument("--jitter-ms", type=float, default=0)
    parser.add_argument("--loss", type=float, default=0, help="%% of the packets")
    parser.add_argument("--vad", action="store_true", help="send nothing between chirps")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    hosts = ("10.40.0.1", "10.40.0.2")
    signalling, media = tuple((host, 5060) for host in hosts), tuple((host, 12_000) for host in hosts)
    dialog = wire.Dialog(f"drift-{options.seed}", "+48200900001", "+48300900001", signalling, media, 8)
    frames = dialog.opening(BEGIN_NS) + dialog.ending(BEGIN_NS + int(options.seconds * 1e9) + 50_000_000)
    for side in (0, 1):
        stream = wire.RtpStream(media[side], media[1 - side], dice.getrandbits(32), 8, dice.getrandbits(16), dice.getrandbits(32))
        frames += [(BEGIN_NS + when, frame) for when, frame in side_frames(side, options, stream, dice)]
    frames.sort(key=lambda item: item[0])
    with open(options.output, "wb", buffering=1 << 20) as file:
        file.write(wire.PCAP_HEADER)
        for when, frame in frames:
            file.write(wire.record(when, frame))
    print(f"{len(frames)} frames")


if __name__ == "__main__":
    main()
