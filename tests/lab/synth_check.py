#!/usr/bin/env python3
"""Says whether a recording holds the synthetic call that it should, whole, and nothing of another.

    synth_check.py CALL RECORDING [CALL RECORDING…] [--seconds S] [--lag-ms MAX] [--missing PERCENT]

CALL is the number in synth_calls.py. RECORDING: two channels, anything FFmpeg reads; second 0 is the
200 OK. For both channels: every code that can be heard is this call's (a second tone within 10 dB of
the first is a mix), what is missing is at most PERCENT (default 3), and the symbols stand within MAX
(default 20) ms of where the capture clock puts them. Exit status 0 if all do, else 1. Needs numpy.
"""
import argparse
import subprocess
import sys

import numpy as np

import tones

RATE = 8000
WINDOW = 160  # 20 ms: whole periods of every tone
STEP = 40     # 5 ms


def load(path):
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-f", "s16le", "-ac", "2", "-ar", str(RATE), "-"],
                         check=True, capture_output=True).stdout
    return np.frombuffer(raw, "<i2").reshape(-1, 2).astype(np.float64)


def tone_power(channel):
    """Power of the six place tones and the sixteen digit tones in every 20 ms window, 5 ms apart."""
    count = (len(channel) - WINDOW) // STEP + 1
    windows = np.lib.stride_tricks.as_strided(channel, (count, WINDOW), (channel.strides[0] * STEP, channel.strides[0]))
    spectrum = np.abs(np.fft.rfft(windows, axis=1)) ** 2  # bins of 50 Hz
    return spectrum[:, [hz // 50 for hz in tones.PLACE_HZ]], spectrum[:, [hz // 50 for hz in tones.DIGIT_HZ]]


def check(channel, call, side, seconds, lag_max_ms, missing_max):
    """A list of what is wrong with this channel."""
    if len(channel) < WINDOW:
        return ["it is empty"]
    places, digits = tone_power(np.ascontiguousarray(channel))
    begin_ms = tones.first_media_ns(call, side) / 1e6
    expected = tones.digits_of(tones.value_of(call, side))
    heard = digits.max(axis=1) > (0.05 * 7500 * WINDOW / 2) ** 2
    place, digit = places.argmax(axis=1), digits.argmax(axis=1)
    wrong, best = [], (-1.0, 0)
    centre_ms = (np.arange(len(place)) * STEP + WINDOW / 2) * 1000 / RATE
    for lag in range(-200, 201, 2):  # the lag at which the places fit best
        since = centre_ms - begin_ms - lag
        inside = (since >= 0) & (since < seconds * 1000) & heard
        fits = (place == (since // tones.SYMBOL_MS).astype(int) % 6)[inside]
        best = max(best, (float(fits.mean()) if len(fits) else 0.0, -abs(lag), lag))
    lag = best[-1]
    if abs(lag) > lag_max_ms:
        wrong.append(f"it is {lag} ms away from where the capture clock puts it")
    since = centre_ms - begin_ms - lag
    # Windows well inside one symbol: at its edges two symbols sound at once, and codecs smear.
    phase = since % tones.SYMBOL_MS
    inner = (since >= 0) & (since < seconds * 1000) & (phase > 40) & (phase < tones.SYMBOL_MS - 40)
    missing = 100 * (1 - heard[inner].mean()) if inner.any() else 100
    if missing > missing_max:
        wrong.append(f"{missing:.1f} % of it is missing")
    inner &= heard
    symbol = (since // tones.SYMBOL_MS).astype(int) % 6
    right = (place == symbol) & (digit == np.array(expected)[symbol])
    strange = 100 * (1 - right[inner].mean()) if inner.any() else 100
    if strange > missing_max:
        at_s = centre_ms[inner & ~right][0] / 1000 if (inner & ~right).any() else 0
        wrong.append(f"{strange:.1f} % of it is not call {call}'s {('caller', 'callee')[side]} (first at {at_s:.2f} s)")
    ordered = np.sort(digits, axis=1)
    mixed = 100 * (ordered[inner, -2] > ordered[inner, -1] / 10).mean() if inner.any() else 0
    if mixed > missing_max:
        wrong.append(f"{mixed:.1f} % of it has a second voice in it")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="CALL RECORDING")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--lag-ms", type=float, default=20)
    parser.add_argument("--missing", type=float, default=3)
    options = parser.parse_args()
    if len(options.pairs) % 2:
        parser.error("each recording needs its call's number before it")
    bad = 0
    for call, path in zip(options.pairs[::2], options.pairs[1::2]):
        recording = load(path)
        for side in (0, 1):
            for fault in check(recording[:, side], int(call), side, options.seconds, options.lag_ms, options.missing):
                print(f"{path}: call {call}, {('caller', 'callee')[side]}: {fault}")
                bad += 1
    print(f"{len(options.pairs) // 2} recordings, {bad} faults")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
