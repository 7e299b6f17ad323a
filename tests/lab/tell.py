"""Says in words what `callspan calls --json` says of one call. Standard library only.

    callspan calls --archive DIR --json | tell.py --id
    callspan calls --archive DIR --json | tell.py --archive DIR --recording FILE
"""
import argparse
import json
import os
import sys


def party(of):
    return " ".join(word for word in (of["name"], of["number"] or of["uri"]) if word)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--id", action="store_true")
    parser.add_argument("--archive")
    parser.add_argument("--recording")
    options = parser.parse_args()
    calls = [json.loads(line) for line in sys.stdin if line.strip()]
    if len(calls) != 1:
        sys.exit(f"demo: {len(calls)} calls in the archive, not one")
    call = calls[0]
    recording = call["recording"]
    if options.id:
        print(call["id"])
        return
    if recording["state"] != "stored" or call["verdict"] != "both" or not recording["seconds"]:
        sys.exit(f"demo: the call is not whole: recording {recording['state']}, sides heard: {call['verdict']}")
    print(f"  recording  {options.recording} ({os.path.getsize(options.recording)} bytes), kept in {options.archive}")
    print(f"  call       {call['id']}, {call['started_at']}, ended by {call['end_reason']}")
    print(f"  caller     {party(call['caller'])} (left)")
    print(f"  callee     {party(call['callee'])} (right)")
    print(f"  length     {recording['seconds']:.2f} s, {recording['channels']} channels, {recording['bytes']} bytes")
    for stream in call["streams"]:
        quality = "" if stream["mos"] is None else f", MOS {stream['mos']:.2f}"
        print(f"  quality    {stream['channel']}: {stream['codec']}, {stream['packets']} packets, {stream['lost']} lost, "
              f"jitter {stream['jitter_ms']:.1f} ms{quality} (at the tap)")
    print(f"  listen     ffplay -autoexit {options.recording}   or open it in a browser or in VLC")


main()
