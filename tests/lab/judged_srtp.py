"""The judge's `srtp`: encrypted calls with their keys in SDP or agreed on by DTLS, recorded in the clear; without a key, raw.

baresip 1.0.0 offers AES_CM_128_HMAC_SHA1_80 alone and answers its three other suites when the lab's own phone offers
them. What it does not know (AES_256_CM, an MKI, new keys in a re-INVITE) is between two of the lab's own. The truth is
what srtp_open.py makes of the capture. The own phones' sequence numbers wrap after three seconds. What baresip agrees on
by DTLS, OpenSSL logs while callspan reads (lib/keylog.c); both its calls are recorded, with that log and without one.
"""
import functools

from judging import HERE, WORK, expect, judge_call, judge_unheard, lab, replay, rooted, run, script, takes

DTLS = ["call", "PCMA/8000/1", 8, "udp", "--account", ";mediaenc=dtls_srtp"]
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
    "dtls-srtp": DTLS,
    "dtls-srtp-logged": DTLS,
}


def srtp():
    if rooted():
        takes(list(SEALED), record, judge_sealed)


@functools.cache
def key_logging():
    """A library that makes OpenSSL log its secrets."""
    library = WORK / "keylog.so"
    run("cc", "-shared", "-fPIC", "-o", library, HERE / "lib/keylog.c", "-ldl", check=True)
    return library


def record(name):
    if name != "dtls-srtp-logged":
        return lab(name, SEALED[name])
    log = WORK / f"{name}.keys.log"
    log.write_text("")
    return lab(name, SEALED[name], ["--tls-keylog", log], LD_PRELOAD=str(key_logging()), SSLKEYLOGFILE=str(log))


def judge_sealed(name, take):
    path, done = take
    capture, opened, truth = WORK / f"{name}.pcap", WORK / f"{name}.opened.pcap", WORK / f"{name}.truth.wav"
    expect(done.returncode == 0, f"{name}: live, status {done.returncode} {done.stderr.strip()[-300:]}")
    log = [WORK / f"{name}.keys.log"] if name == "dtls-srtp-logged" else []
    again = replay(f"{name}-replay", capture, *(["--tls-keylog", *log] if log else []))
    if name == "dtls-srtp":
        # A ClientHello to a port that is not open yet is sent again after a second (RFC 6347 §4.2.4.1).
        judge_unheard(f"{name}-live", path, "encrypted", 1.5)
        judge_unheard(f"{name}-replayed", again, "encrypted", 1.5)
        return
    made = script("srtp_open.py", capture, opened, *log)
    expect('"not_opened": 0' in made.stdout and '"opened": 0' not in made.stdout,
           f"{name}: the capture opens without callspan: {made.stdout.strip()} {made.stderr.strip()[-300:]}")
    script("truth.py", opened, truth)
    bounds = ["--ceiling", 16, 0, 8000, "--pesq-below-ceiling", 0.15, "--correlation-min", 0.87, "--leak-max", -25]
    judge_call(f"{name}-live", path, truth, "PCMA", *bounds)
    judge_call(f"{name}-replayed", again, truth, "PCMA", *bounds)
