"""The judge's `srtp`: encrypted calls with their keys in SDP, recorded in the clear, and one without keys, recorded raw.

baresip 1.0.0 offers AES_CM_128_HMAC_SHA1_80 alone and answers its three other suites when the lab's own phone offers
them. What it does not know (AES_256_CM, an MKI, new keys in a re-INVITE) is between two of the lab's own. The truth is
what srtp_open.py makes of the capture. The own phones' sequence numbers wrap after three seconds.
"""
from judging import WORK, expect, judge_call, judge_unheard, lab, replay, rooted, script, takes

SEALED = {
    "srtp-offered": ["call", "PCMA/8000/1", 8, "udp", "--account", ";mediaenc=srtp"],
    "srtp-mand": ["call", "PCMA/8000/1", 8, "udp", "--account", ";mediaenc=srtp-mand"],
    "srtp-mandf": ["call", "PCMA/8000/1", 8, "udp", "--account", ";mediaenc=srtp-mandf"],
    "srtp-128-32": ["scene", "out:AES_CM_128_HMAC_SHA1_32"],
    "srtp-128-gcm": ["scene", "out:AEAD_AES_128_GCM"],
    "srtp-256-gcm": ["scene", "out:AEAD_AES_256_GCM"],
    "srtp-256-80": ["scene", "call:AES_256_CM_HMAC_SHA1_80"],
    "srtp-256-32-mki": ["scene", "call:AES_256_CM_HMAC_SHA1_32:mki"],
    "srtp-rekey": ["scene", "rekey:AES_CM_128_HMAC_SHA1_80"],
    "dtls-srtp": ["call", "PCMA/8000/1", 6, "udp", "--account", ";mediaenc=dtls_srtp"],
}


def srtp():
    if rooted():
        takes(list(SEALED), lambda name: lab(name, SEALED[name]), judge_sealed)


def judge_sealed(name, take):
    path, done = take
    capture, opened, truth = WORK / f"{name}.pcap", WORK / f"{name}.opened.pcap", WORK / f"{name}.truth.wav"
    expect(done.returncode == 0, f"{name}: live, status {done.returncode} {done.stderr.strip()[-300:]}")
    again = replay(f"{name}-replay", capture)
    if name == "dtls-srtp":
        judge_unheard(f"{name}-live", path, "encrypted")
        judge_unheard(f"{name}-replayed", again, "encrypted")
        return
    made = script("srtp_open.py", capture, opened)
    expect('"not_opened": 0' in made.stdout and '"opened": 0' not in made.stdout,
           f"{name}: the capture opens without callspan: {made.stdout.strip()} {made.stderr.strip()[-300:]}")
    script("truth.py", opened, truth)
    bounds = ["--ceiling", 16, 0, 8000, "--pesq-below-ceiling", 0.15, "--correlation-min", 0.85, "--leak-max", -25]
    judge_call(f"{name}-live", path, truth, "PCMA", *bounds)
    judge_call(f"{name}-replayed", again, truth, "PCMA", *bounds)
