#!/usr/bin/env python3
"""Compares a two-channel recording with the truth of the same call.

    score.py RECORDING TRUTH.wav [--band nb|wb] [--ceiling KBPS COMPLEXITY HZ] [--json]
             [--lag-max MS] [--pesq-min MOS] [--pesq-below-ceiling MOS] [--correlation-min R] [--leak-max DB]

Both have two channels with the same second 0 (truth.py writes such a file). For each channel:

  lag_ms          of the whole channel (0 = as the capture clock has it)
  window_lag_ms   smallest and largest lag of any two-second window that has speech
  correlation     of the waveforms: median of those windows, each at its own lag, since a recording
                  keeps RTP's spacing while it is within 10 ms of the capture clock
  pesq            ITU-T P.862 (nb: 8 kHz) or P.862.2 (wb: 16 kHz)
  ceiling         PESQ of the truth after libopus alone, at that bitrate, complexity and sample rate
  leak_db         how loud the other side is in this channel, against its own channel

Exit status 1 if a bound that was given does not hold, 2 if there is nothing to compare.
Needs ffmpeg, numpy and pesq.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

WINDOW_S = 2
REACH_S = 0.3
SPEECH_RMS = 150


def load(path, rate, channels=2):
    out = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-f", "s16le", "-ar", str(rate), "-"], check=True, capture_output=True).stdout
    samples = np.frombuffer(out, "<i2")
    if channels == 2 and len(samples) % 2:
        raise ValueError(f"{path} has no two channels")
    return samples.reshape(-1, channels).astype(np.float64)


def channels_of(path):
    return subprocess.run(["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries", "stream=channels", "-of", "csv=p=0", path],
                          check=True, capture_output=True, text=True).stdout.strip()


def best_lag(recording, truth, reach):
    """The lag within +-reach samples at which the two fit best. Both have equal length."""
    size = 1 << (len(recording) + len(truth)).bit_length()
    fit = np.fft.irfft(np.fft.rfft(recording, size) * np.conj(np.fft.rfft(truth, size)), size)
    near = np.concatenate([fit[-reach:], fit[:reach + 1]])
    return int(np.argmax(near)) - reach


def shifted(recording, truth, lag):
    """The overlapping parts of both with the lag taken out."""
    recording, truth = (recording[lag:], truth) if lag >= 0 else (recording, truth[-lag:])
    length = min(len(recording), len(truth))
    return recording[:length], truth[:length]


def correlation(one, other):
    norm = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / norm) if norm else 0.0


def window_fits(recording, truth, rate):
    """Lag in ms and correlation of every two-second window in which there is speech."""
    size, reach, fits = WINDOW_S * rate, int(REACH_S * rate), []
    for begin in range(0, min(len(recording), len(truth)) - size + 1, size):
        said = truth[begin:begin + size]
        if np.sqrt(np.mean(said ** 2)) < SPEECH_RMS:
            continue
        lag = best_lag(recording[begin:begin + size], said, reach)
        # Half a window of padding that the lag pushed out must not decide: it has to fit well there.
        fit = correlation(*shifted(recording[begin:begin + size], said, lag))
        fits.append((round(1000 * lag / rate, 1) if fit > 0.3 else float("nan"), fit))
    return fits


def pesq_of(rate, truth, recording):
    from pesq import PesqError, pesq
    try:
        return round(float(pesq(rate, truth.astype(np.int16), recording.astype(np.int16), "nb" if rate == 8000 else "wb")), 3)
    except PesqError as error:
        print(f"score: no PESQ: {error}", file=sys.stderr)
        return None


def ceiling_of(rate, truth, whole, kbps, complexity, coded_rate):
    """PESQ at `rate` of the truth through libopus alone; `whole`: the same truth at the rate that is coded."""
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(coded_rate), "-ac", "1", "-i", "-", "-c:a", "libopus", "-application",
                        "voip", "-vbr", "on", "-b:a", f"{kbps}k", "-compression_level", str(complexity), f"{work}/t.opus"],
                       input=whole.astype("<i2").tobytes(), check=True, capture_output=True)
        coded = load(f"{work}/t.opus", rate, 1)[:, 0]
    lag = best_lag(coded, truth, rate // 20)
    coded, truth = shifted(coded, truth, lag)
    return pesq_of(rate, truth, coded)


def ceilings(options, rate, truth):
    """`ceiling_of` each channel, kept beside the truth: a truth is scored against several recordings."""
    kept = pathlib.Path(f"{options.truth}.{'-'.join(map(str, options.ceiling))}-{rate}.json")
    if not kept.exists() or kept.stat().st_mtime < pathlib.Path(options.truth).stat().st_mtime:
        whole = load(options.truth, options.ceiling[2])
        kept.write_text(json.dumps([ceiling_of(rate, truth[:, side], whole[:, side], *options.ceiling) for side in (0, 1)]))
    return json.loads(kept.read_text())


def figures(recording, truth, other, rate, options):
    """Everything that is told of one channel."""
    lag = best_lag(recording, truth, int(REACH_S * rate))
    heard, said = shifted(recording, truth, lag)
    fits = window_fits(recording, truth, rate)
    windows = [lag for lag, _ in fits]
    other = other[:len(recording)]
    leak = abs(float(recording[:len(other)] @ other)) / max(float(other @ other), 1e-9)
    # What the two truths have in common by chance is no leak.
    chance = abs(float(truth[:len(other)] @ other[:len(truth)])) / max(float(other @ other), 1e-9)
    result = {"lag_ms": round(1000 * lag / rate, 1), "window_lag_ms": [min(windows), max(windows)] if windows else None,
              "windows": len(windows), "unmatched_windows": int(np.isnan(windows).sum()) if windows else 0,
              "correlation": round(float(np.median([fit for _, fit in fits])), 4) if fits else 0.0, "pesq": pesq_of(rate, said, heard),
              "leak_db": round(20 * np.log10(max(leak - chance, 1e-4)), 1)}
    if windows:
        matched = [lag for lag in windows if lag == lag]
        result["window_lag_ms"] = [min(matched), max(matched)] if matched else None
    return result


def faults(name, result, options):
    """What does not hold of the bounds that were given."""
    lags = [result["lag_ms"], *(result["window_lag_ms"] or [])]
    if options.lag_max is not None and (max(map(abs, lags)) > options.lag_max or result["unmatched_windows"]):
        yield f"{name}: lags {lags} ms ({result['unmatched_windows']} windows without a match), at most {options.lag_max} allowed"
    if options.pesq_min is not None and (result["pesq"] or 0) < options.pesq_min:
        yield f"{name}: PESQ {result['pesq']}, at least {options.pesq_min} wanted"
    if options.pesq_below_ceiling is not None and (result["pesq"] or 0) < (result.get("ceiling") or 0) - options.pesq_below_ceiling:
        yield f"{name}: PESQ {result['pesq']}, libopus alone reaches {result['ceiling']}"
    if options.correlation_min is not None and result["correlation"] < options.correlation_min:
        yield f"{name}: correlation {result['correlation']}, at least {options.correlation_min} wanted"
    if options.leak_max is not None and result["leak_db"] > options.leak_max:
        yield f"{name}: the other side leaks in at {result['leak_db']} dB, at most {options.leak_max} allowed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording")
    parser.add_argument("truth")
    parser.add_argument("--band", choices=["nb", "wb"], default="nb")
    parser.add_argument("--ceiling", nargs=3, type=int, metavar=("KBPS", "COMPLEXITY", "HZ"))
    for bound in ("lag-max", "pesq-min", "pesq-below-ceiling", "correlation-min", "leak-max"):
        parser.add_argument(f"--{bound}", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for path in (options.recording, options.truth):
        if channels_of(path) != "2":
            print(f"score: {path} has {channels_of(path) or 'no'} channels, not 2", file=sys.stderr)
            sys.exit(2)
    rate = 8000 if options.band == "nb" else 16_000
    recording, truth = load(options.recording, rate), load(options.truth, rate)
    result, wrong = {"seconds": round(len(recording) / rate, 3), "truth_seconds": round(len(truth) / rate, 3)}, []
    for side, name in enumerate(("caller", "callee")):
        if not recording[:, side].any() or not truth[:, side].any():
            print(f"score: the {name} channel is silent", file=sys.stderr)
            sys.exit(2)
        result[name] = figures(recording[:, side], truth[:, side], truth[:, 1 - side], rate, options)
        if options.ceiling:
            result[name]["ceiling"] = ceilings(options, rate, truth)[side]
        wrong += faults(name, result[name], options)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['seconds']} s, truth {result['truth_seconds']} s")
        for name in ("caller", "callee"):
            print(name, " ".join(f"{key}={value}" for key, value in result[name].items()))
    for fault in wrong:
        print(f"score: {fault}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
