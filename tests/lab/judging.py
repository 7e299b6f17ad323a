"""What the parts of the judge share: running the program, one archive a case, and what held or did not.

Needs python3; the scripts it starts need numpy and pesq.
"""
import array
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "judge"
VOICES = WORK / "voices"
CALLSPAN = str(pathlib.Path(os.environ.get("CALLSPAN", ROOT / "target/release/callspan")).resolve())
CAPTURE = ROOT / "tests" / "captures" / "two-phones-pcma.pcap"
PYTHON = str(ROOT / "build/venv/bin/python") if (ROOT / "build/venv/bin/python").exists() else sys.executable
OUT = "OUT.pcap"
FAULTS = []
PASSED = []


def expect(holds, what):
    print(("  ok    " if holds else "  FAULT ") + what, flush=True)
    (PASSED if holds else FAULTS).append(what)


def run(*command, **options):
    return subprocess.run([str(part) for part in command], text=True, capture_output=True, **options)


def script(name, *arguments):
    return run(PYTHON, HERE / name, *arguments)


def callspan(*arguments):
    """Runs the program; a status other than 0 or 3 is a fault."""
    done = run(CALLSPAN, *arguments)
    if done.returncode not in (0, 3):
        expect(False, f"callspan {' '.join(map(str, arguments))}: status {done.returncode}: {done.stderr.strip()[-400:]}")
    return done


def archive(name):
    path = WORK / name
    shutil.rmtree(path, ignore_errors=True)
    callspan("init", path, "--plaintext")
    return path


def replay(name, capture, *flags):
    """A new archive with the capture in it; its counters must add up."""
    path = archive(name)
    done = callspan("replay", capture, "--archive", path, "--json", *flags)
    report = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {"frames": {"received": -1, "by_outcome": {}}}
    frames = report["frames"]
    counted = run("capinfos", "-Mc", capture).stdout.split()[-1]
    expect(frames["received"] == int(counted) == sum(frames["by_outcome"].values()),
           f"{name}: {frames['received']} frames received, {counted} in the file, {sum(frames['by_outcome'].values())} accounted for")
    return path


def calls(path):
    return [json.loads(line) for line in callspan("calls", "--archive", path, "--json").stdout.splitlines()]


def only_call(path, name):
    found = calls(path)
    expect(len(found) == 1, f"{name}: {len(found)} calls, one expected")
    return found[0] if found else None


def export(path, call, out):
    out.unlink(missing_ok=True)
    callspan("export", call["id"], "--archive", path, "--format", out.suffix[1:], "--output", out)
    return out


def judge_call(name, path, truth, codec, *bounds, numbers=("4820001001", "4830002002")):
    """Parties, codec and sound of the one call in an archive."""
    call = only_call(path, name)
    if call is None:
        return None
    parties = (call["caller"]["number"], call["callee"]["number"])
    expect(parties == numbers, f"{name}: parties {parties}")
    expect({stream["codec"] for stream in call["streams"]} == {codec}, f"{name}: codecs {[stream['codec'] for stream in call['streams']]}")
    recording = export(path, call, WORK / f"{name}.opus")
    score = script("score.py", recording, truth, "--lag-max", 20, *bounds)
    expect(score.returncode == 0, f"{name}: {' | '.join(score.stdout.strip().splitlines())} {score.stderr.strip()[-300:]}")
    return call


def lab(name, command, flags=(), **environment):
    """A command of `lab` in a lab of its own, recorded by tcpdump and callspan at the same port.

    `command`: its words, OUT where its capture file is named (the third, where none is OUT).
    """
    command = command if OUT in command else [*command[:2], OUT, *command[2:]]
    words = [WORK / f"{name}.pcap" if word == OUT else word for word in command]
    path = archive(f"{name}-live")
    VOICES.mkdir(exist_ok=True)
    recorder = ["--", CALLSPAN, "capture", "--interface", "span0", "--archive", path, *flags]
    return path, run(HERE / "lab", *words, *recorder, env=os.environ | {"LAB_VOICES": str(VOICES)} | environment)


def takes(wanted, record, judge):
    """Records all that is wanted, five at once, and judges each; what does not pass gets a second take, alone.

    A real phone on a busy machine may stall for a third of a second and spoil its call. A fault of ours
    is there both times.
    """
    with concurrent.futures.ThreadPoolExecutor(5) as pool:  # labs do not meet, and phones mostly wait
        recorded = list(pool.map(record, wanted))
    for want, take in zip(wanted, recorded):
        before = len(FAULTS)
        judge(want, take)
        if len(FAULTS) > before:
            print(f"  again: {want}", flush=True)
            del FAULTS[before:]
            judge(want, record(want))


def rooted():
    """Whether namespaces can be made here."""
    if os.geteuid() != 0:
        print("  left out: namespaces need root")
    return os.geteuid() == 0


def judge_unheard(label, path, reason, begin=0.5):
    """The one call of an archive must have no sound, but every packet, and say why. `begin`: seconds in which media begins."""
    call = only_call(path, label)
    if call is None:
        return
    told = (call["recording"]["state"], call["verdict"])
    expect(told == ("raw", "both"), f"{label}: recording state and verdict {told}")
    for channel in ("caller", "callee"):
        unheard = sum(gap["seconds"] for gap in call["gaps"] if gap["channel"] == channel and gap["reason"] == reason)
        expect(unheard > call["recording"]["seconds"] - begin, f"{label}: {unheard:.1f} s of the {channel} are `{reason}` of {call['recording']['seconds']:.1f} s")
        expect(any(note.startswith(channel) for note in call["notes"]), f"{label}: a note says why: {call['notes']}")
    done = run(CALLSPAN, "export", call["id"], "--archive", path, "--format", "wav", "--output", WORK / f"{label}.wav")
    expect(done.returncode == 1, f"{label}: nothing is exported as sound: status {done.returncode} {done.stderr.strip()[-200:]}")
    packets = run("tshark", "-n", "-r", export(path, call, WORK / f"{label}.raw.pcap"), "-Y", "udp.port != 5060", "-T", "fields", "-e", "frame.number")
    wanted = sum(stream["packets"] for stream in call["streams"])
    expect(len(packets.stdout.split()) >= wanted > 0, f"{label}: {len(packets.stdout.split())} packets exported, {wanted} RTP packets seen")


def loudest(recording, channel, begin, seconds):
    """The largest sample of a part of one channel of a recording."""
    pan = f"pan=mono|c0=c{('caller', 'callee').index(channel)}"
    heard = subprocess.run(["ffmpeg", "-v", "error", "-ss", str(begin), "-t", str(seconds), "-i", recording, "-af", pan, "-f", "s16le", "-"],
                           check=True, capture_output=True).stdout
    return max(map(abs, array.array("h", heard)), default=0)
