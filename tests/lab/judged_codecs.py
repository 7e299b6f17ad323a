"""The judge's `live`: calls in every codec that the phones offer, recorded and replayed.

The truth of each is what FFmpeg or opusdec make of the packets that tcpdump saw (truth.py).
"""
import dataclasses

from judging import HERE, OUT, WORK, expect, judge_call, judge_unheard, lab, replay, rooted, run, script, takes

NARROW, WIDE = (16, 0, 8000), (24, 0, 16_000)  # the libopus to compare with: kb/s, complexity, Hz


@dataclasses.dataclass
class Sound:
    """A call in one codec."""

    codec: str                    # as `calls --json` names it
    command: list
    libopus: tuple = NARROW
    dense: bool = False           # replayed once more in AMR's bandwidth-efficient layout
    numbers: tuple = ("4820001001", "4830002002")


def baresip(codec, transport="udp"):
    return ["call", codec, 10, transport]


def own(codec):
    return ["scene", "call", "--codec", codec]


def sipp(codec, libopus):
    return Sound(codec, ["load", 1, 1, OUT, 10, "--codec", codec], libopus, numbers=("48201", "48301"))


SOUNDS = {f"{name.split('/')[0].lower()}-{transport}": Sound(name.split("/")[0].upper(), baresip(name, transport), libopus)
          for name, libopus in {"PCMA/8000/1": NARROW, "PCMU/8000/1": NARROW, "G722/16000/1": WIDE, "L16/8000/1": NARROW, "opus/48000/2": WIDE}.items()
          for transport in ("udp", "tcp")} | {
    "gsm": Sound("GSM", baresip("GSM/8000/1")),
    "amr": Sound("AMR", baresip("AMR/8000/1"), dense=True),
    "amr-wb": Sound("AMR-WB", baresip("AMR-WB/16000/1"), WIDE, dense=True),
} | {
    f"g726-{kbps}": Sound(f"G726-{kbps}", baresip(f"G726-{kbps}/8000/1")) for kbps in (16, 24, 32, 40)} | {
    "g729": Sound("G729", own("G729")), "g723": Sound("G723", own("G723")), "speex": Sound("SPEEX", own("speex")),
    "sipp-pcma": sipp("PCMA", NARROW), "sipp-pcmu": sipp("PCMU", NARROW), "sipp-g722": sipp("G722", WIDE), "sipp-g729": sipp("G729", NARROW),
    "codec2": Sound("CODEC2", ["call", "CODEC2/8000/1", 6, "udp"], None),  # nothing decodes it
}


def live():
    if rooted():
        takes(list(SOUNDS), lambda name: lab(name, SOUNDS[name].command), judge_live)


def judge_live(name, take):
    sound, (path, done) = SOUNDS[name], take
    capture, truth = WORK / f"{name}.pcap", WORK / f"{name}.truth.wav"
    expect(done.returncode == 0, f"{name}: live, status {done.returncode} {done.stderr.strip()[-300:]}")
    if sound.libopus is None:
        judge_unheard(f"{name}-live", path, "undecodable")
        judge_unheard(f"{name}-replayed", replay(f"{name}-replay", capture), "undecodable")
        return
    made = script("truth.py", capture, truth)
    expect(made.returncode == 0, f"{name}: the truth of the capture is found {made.stderr.strip()[-300:]}")
    bounds = ["--ceiling", *sound.libopus, "--pesq-below-ceiling", 0.15, "--correlation-min", 0.87, "--leak-max", -25]
    judge_call(f"{name}-live", path, truth, sound.codec, *bounds, numbers=sound.numbers)
    judge_call(f"{name}-replayed", replay(f"{name}-replay", capture), truth, sound.codec, *bounds, numbers=sound.numbers)
    if sound.dense:
        dense = WORK / f"{name}-dense.pcap"
        run("python3", HERE / "amr_dense.py", capture, dense)
        judge_call(f"{name}-dense", replay(f"{name}-dense-replay", dense), truth, sound.codec, *bounds, numbers=sound.numbers)
