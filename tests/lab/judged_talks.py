"""The judge's `talks`: holds, transfers, a B2BUA and IPv6, each one conversation with two whole channels.

Every conversation is recorded live and replayed from what tcpdump saw at the same port. Expected of both:
one row with every Call-ID of the capture, `speakers` and `legs` that say who joined how and when, the
sound of the right host on each channel (truth.py --flow), holds with their reason and silence in them,
and with `--legs all` a row for every Call-ID.
"""
import dataclasses
import json

from judging import WORK, calls, expect, export, lab, loudest, only_call, replay, rooted, run, script, takes

ANNA, BERT, CORA = "4820001001", "4830002002", "4840003003"
AT_TOLERANCE_S = 0.6  # a phone's timer and its answer, on a busy machine


@dataclasses.dataclass
class Talk:
    """How a conversation is made and what must come of it."""

    command: list
    flows: list = dataclasses.field(default_factory=lambda: ["caller 1 2", "callee 2 1"])  # channel, from, to
    legs: list = dataclasses.field(default_factory=list)      # joined_by of each, sorted
    speakers: list = dataclasses.field(default_factory=list)  # (channel, number, second) of who comes later
    holds: list = dataclasses.field(default_factory=list)     # (channel, second, seconds)
    rows: int = 1                                             # with --legs all


TALKS = {
    # The holder goes on sending (sendonly), who is held is silent.
    "hold-baresip": Talk(["call", "PCMA/8000/1", 9, "udp", "--hold", "3", "3"], holds=[("callee", 3, 3)]),
    "hold-inactive": Talk(["scene", "hold"], holds=[("caller", 2.8, 2.5), ("callee", 2.8, 2.5)]),
    "blind-baresip": Talk(["call", "PCMA/8000/1", 10, "udp", "--transfer", "4"], ["caller 1 2", "callee 2 1", "caller 1 3", "callee 3 1"],
                          ["refer"], [("callee", CORA, 4)], rows=2),
    "blind-caller": Talk(["scene", "blind"], ["caller 1 2", "callee 2 1", "caller 3 2", "callee 2 3"], ["refer"], [("caller", CORA, 4)], rows=2),
    "attended": Talk(["scene", "attended"], ["caller 1 2", "callee 2 1", "caller 3 2", "callee 2 3"], ["refer", "replaces"],
                     [("caller", CORA, 5.8)], [("caller", 2.8, 3), ("callee", 2.8, 3)], rows=3),
    "b2bua": Talk(["scene", "b2bua"], ["caller 1 3", "callee 3 1"], ["path"], rows=2),
    "ipv6": Talk(["call", "PCMA/8000/1", 8, "udp", "--ipv6"], []),
}


def talks():
    if rooted():
        takes(list(TALKS), lambda name: lab(name, TALKS[name].command), judge_talk)


def judge_talk(name, take):
    talk, (path, done) = TALKS[name], take
    capture, truth = WORK / f"{name}.pcap", WORK / f"{name}.truth.wav"
    expect(done.returncode == 0, f"{name}: live, status {done.returncode} {done.stderr.strip()[-300:]}")
    flows = [word for flow in talk.flows for channel, source, to in [flow.split()]
             for word in ("--flow", channel, f"10.99.0.{source}", f"10.99.0.{to}")]
    made = script("truth.py", capture, truth, *flows)
    expect(made.returncode == 0, f"{name}: the truth of the capture is found {made.stderr.strip()[-300:]}")
    for label, archived in ((f"{name}-live", path), (f"{name}-replayed", replay(f"{name}-replay", capture))):
        call = only_call(archived, label)
        if call is not None:
            judge_row(label, talk, call, capture)
            judge_sound(label, talk, export(archived, call, WORK / f"{label}.opus"), truth)
    apart = calls(replay(f"{name}-apart", capture, "--legs", "all"))
    expect(len(apart) == talk.rows, f"{name}: {len(apart)} calls with --legs all, {talk.rows} expected")


def call_ids(capture):
    """Every Call-ID that an INVITE of the capture has, as tshark reads it."""
    return set(run("tshark", "-n", "-r", capture, "-Y", 'sip.Method == "INVITE"', "-T", "fields", "-e", "sip.Call-ID").stdout.split())


def judge_row(label, talk, call, capture):
    """What `calls --json` says of the conversation."""
    parties = (call["caller"]["number"], call["callee"]["number"], call["verdict"], call["state"], call["end_reason"])
    expect(parties == (ANNA, BERT, "both", "ended", "bye"), f"{label}: caller, callee, verdict, end: {parties}")
    wanted = call_ids(capture)
    expect(set(call["sip_call_ids"]) == wanted, f"{label}: Call-IDs {call['sip_call_ids']}, on the wire {sorted(wanted)}")
    joined = sorted(leg["joined_by"] for leg in call.get("legs", []))
    expect(joined == talk.legs, f"{label}: legs joined by {joined}, expected {talk.legs}")
    told = [(speaker["channel"], speaker["number"], speaker["at_s"]) for speaker in call.get("speakers", [])]
    first = [("caller", ANNA, 0), ("callee", BERT, 0)] if talk.speakers else []
    expect(near(told, first + talk.speakers), f"{label}: speakers {told}, expected {first + talk.speakers}")
    held = [(gap["channel"], gap["at_s"], gap["seconds"]) for gap in call["gaps"] if gap["reason"] == "hold"]
    expect(near(held, talk.holds), f"{label}: holds {held}, expected {talk.holds}")
    others = [gap for gap in call["gaps"] if gap["reason"] != "hold" and gap["seconds"] > 0.1]
    expect(not others, f"{label}: no other gaps: {json.dumps(others)}")


def near(told, expected):
    """The same words, and numbers within the tolerance."""
    return len(told) == len(expected) and all(
        abs(one - other) <= AT_TOLERANCE_S if isinstance(one, (int, float)) else one == other
        for row, want in zip(sorted(told), sorted(expected)) for one, other in zip(row, want))


def judge_sound(label, talk, recording, truth):
    # Where one voice follows another there is a seam of some ms, which PESQ hears.
    below = 0.15
    score = script("score.py", recording, truth, "--lag-max", 20, "--ceiling", 16, 0, 8000, "--pesq-below-ceiling", below,
                   "--correlation-min", 0.87, "--leak-max", -25)
    expect(score.returncode == 0, f"{label}: {' | '.join(score.stdout.strip().splitlines())} {score.stderr.strip()[-300:]}")
    for channel, at, seconds in talk.holds:
        peak = loudest(recording, channel, at + 0.5, seconds - 1)
        expect(peak < 100, f"{label}: the {channel} channel peaks at {peak} while held, silence expected")
