"""The judge's `wires`: SIP that does not come as plain UDP or TCP.

TLS 1.2 and 1.3 with a key log that the phone writes while callspan captures, WebSocket, WebSocket in TLS; tshark reads
the same key log for the truth. And the bundled call, sent over loopback in HEP by an agent.
"""
import signal
import socket
import subprocess
import time

from judging import CALLSPAN, CAPTURE, HERE, WORK, archive, expect, judge_call, lab, replay, rooted, script, takes

WIRES = ["tls12", "tls13", "ws", "wss", "hep"]
BOUNDS = ["--ceiling", 16, 0, 8000, "--pesq-below-ceiling", 0.15, "--correlation-min", 0.87, "--leak-max", -25]


def wires():
    if rooted():
        takes(WIRES, lambda name: receive_hep() if name == "hep" else record(name), judge_wire)


def key_log(name):
    return WORK / f"{name}.keys"


def record(name):
    key_log(name).unlink(missing_ok=True)
    return lab(name, ["scene", f"over:{name}"], flags=["--tls-keylog", key_log(name)], LAB_KEYLOG=str(key_log(name)))


def receive_hep():
    """The bundled call from an agent, at its own pace."""
    path = archive("hep-live")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recorder = subprocess.Popen([CALLSPAN, "capture", "--hep-listen", f"127.0.0.1:{port}", "--archive", str(path)], stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(2)
        script("hep_agent.py", CAPTURE, "127.0.0.1", port)
        time.sleep(1)
        recorder.send_signal(signal.SIGTERM)
        _, said = recorder.communicate(timeout=30)
    finally:
        recorder.kill()
    return path, subprocess.CompletedProcess(recorder.args, recorder.returncode, "", said)


def judge_wire(name, take):
    path, done = take
    capture, truth = CAPTURE if name == "hep" else WORK / f"{name}.pcap", WORK / f"{name}.truth.wav"
    expect(done.returncode == 0, f"{name}: live, status {done.returncode} {done.stderr.strip()[-300:]}")
    keys = ["--keylog", key_log(name)] if "tls" in name or name == "wss" else []
    made = script("truth.py", capture, truth, *keys)
    expect(made.returncode == 0, f"{name}: the truth of the capture is found {made.stderr.strip()[-300:]}")
    judge_call(f"{name}-live", path, truth, "PCMA", *BOUNDS)
    if name != "hep":
        flags = ["--tls-keylog", key_log(name)] if keys else []
        judge_call(f"{name}-replayed", replay(f"{name}-replay", capture, *flags), truth, "PCMA", *BOUNDS)
