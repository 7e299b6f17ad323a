#!/usr/bin/env python3
"""Measures where the chirps of synth_drift.py stand in a recording, over its whole length.

    drift_check.py RECORDING [--seconds 3600] [--max-ms 20] [--json]

RECORDING: two channels, second 0 is the 200 OK. Prints the lag of each channel at its beginning, middle
and end, and its extremes. Exit status 1 if a chirp is more than MAX away from its capture time, or if
more than 5 % of them are missing. Needs numpy and ffmpeg.
"""
import argparse
import json
import subprocess
import sys

import numpy as np

from synth_drift import CHIRP_S, chirp

RATE = 16_000
REACH_S = 0.3


def lags_ms(channel, side, seconds):
    """Second and lag of every chirp that is heard."""
    template = np.array([chirp(n / RATE, side) for n in range(int(CHIRP_S * RATE))])
    norm = np.linalg.norm(template)
    found = []
    for second in range(1, int(seconds) - 1):
        at = second + side * 0.5
        begin = int((at - REACH_S) * RATE)
        piece = channel[begin:begin + int((2 * REACH_S + CHIRP_S) * RATE)]
        if len(piece) < 2 * len(template):
            break
        fit = np.correlate(piece, template, "valid")
        best = int(np.argmax(fit))
        if fit[best] > 0.2 * norm * norm:
            found.append((at, 1000 * (best + begin - at * RATE) / RATE))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--max-ms", type=float, default=20)
    parser.add_argument("--strays", type=int, default=0,
                        help="so many chirps of each side may be further away: a lost packet is filled with the sound before it, and with a "
                             "part of a chirp where it stood there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", options.recording, "-f", "s16le", "-ac", "2", "-ar", str(RATE), "-"],
                         check=True, capture_output=True).stdout
    recording = np.frombuffer(raw, "<i2").reshape(-1, 2)
    result, bad = {}, False
    for side, name in enumerate(("caller", "callee")):
        found = lags_ms(recording[:, side].astype(np.float64), side, options.seconds)
        expected = max(int(options.seconds) - 2, 1)
        lags = [round(lag, 2) for _, lag in found] or [float("inf")]
        result[name] = {"chirps": len(found), "expected": expected, "first_ms": lags[0], "middle_ms": lags[len(lags) // 2],
                        "last_ms": lags[-1], "min_ms": min(lags), "max_ms": max(lags)}
        strays = sum(abs(lag) > options.max_ms for lag in lags)
        bad |= strays > options.strays or len(found) < 0.95 * expected
    if options.json:
        print(json.dumps(result))
    else:
        for name, figures in result.items():
            print(name, " ".join(f"{key}={value}" for key, value in figures.items()))
    sys.exit(bad)


if __name__ == "__main__":
    main()
