#!/usr/bin/env python3
"""Plays one scene with the lab's own phones (lib/agents.py): what baresip 1.0.0 cannot do.

    scenes.py SCENE CODEC VOICES       (LAB_PREFIX names the lab; `lab scene` runs it)

CODEC is PCMA, G729, G723 or speex; VOICES is a folder with a.CODEC, b.CODEC and c.CODEC: what Anna (10.99.0.1),
Bert (…2) and Cora (…3) say, frame after frame.

  call      Anna calls Bert, who answers; both speak for eight seconds
  call:SUITE     the same with SRTP (a=crypto), e.g. call:AEAD_AES_256_GCM; with an MKI and lifetime: call:SUITE:mki
  out:SUITE      Anna calls a telephone on host b that is not ours (baresip), with SRTP
  over:HOW       call, with SIP over tls12, tls13, ws or wss (WebSocket in TLS 1.3); VOICES/server.pem is Bert's
                 certificate, and Anna's key log goes to LAB_KEYLOG
  rekey:SUITE    Anna and Bert change their keys in a re-INVITE at second 4

  hold      Anna calls Bert, holds him (inactive) from second 3 to 5.5, goes on to 9
  blind     Anna calls Bert and at second 4 sends him on to Cora (REFER); the two talk to second 9
  attended  Anna calls Bert, holds him at second 3, asks Cora, and connects the two at second 6
            (REFER with Replaces); they talk to second 10
  b2bua     Anna calls Bert through a switch (host c) that has a dialog and RTP of its own with each
"""
import os
import pathlib
import ssl
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
from agents import Phone, Scene, Switch  # noqa: E402
from pipes import tls_context  # noqa: E402

ANNA, BERT, CORA = ("4820001001", "10.99.0.1"), ("4830002002", "10.99.0.2"), ("4840003003", "10.99.0.3")


def phone(scene, host, party, name, voices):
    return Phone(scene, host, party[0], name, party[1], (voices / f"{host}.{scene.codec.name}").read_bytes())


def call(scene, voices, suite=None, mki=None):
    anna, bert = phone(scene, "a", ANNA, "Anna", voices), phone(scene, "b", BERT, "Bert", voices)
    for side in (anna, bert):
        side.suite, side.key_parameters = suite, "|2^31|1:4" if mki else ""
    leg = anna.call(*BERT)
    scene.wait(8)
    leg.bye()


HOW = {"tls12": ("TLS", ssl.TLSVersion.TLSv1_2), "tls13": ("TLS", ssl.TLSVersion.TLSv1_3), "ws": ("WS", None),
       "wss": ("WSS", ssl.TLSVersion.TLSv1_3)}


def over(scene, voices, how):
    anna, bert = phone(scene, "a", ANNA, "Anna", voices), phone(scene, "b", BERT, "Bert", voices)
    transport, version = HOW[how]
    for side, end in ((anna, "client"), (bert, "server")):
        context = tls_context(end, version, voices / "server.pem", os.environ["LAB_KEYLOG"]) if version else None
        side.over(transport, context, server=end == "server")
    leg = anna.call(*BERT)
    scene.wait(8)
    leg.bye()


def out(scene, voices, suite):
    anna = phone(scene, "a", ANNA, "Anna", voices)
    anna.suite = suite
    leg = anna.call(*BERT)
    scene.wait(8)
    leg.bye()


def rekey(scene, voices, suite):
    anna, bert = phone(scene, "a", ANNA, "Anna", voices), phone(scene, "b", BERT, "Bert", voices)
    anna.suite = bert.suite = suite
    leg = anna.call(*BERT)
    scene.wait(4)
    bert.legs[0].crypto = None  # Bert's answer has a new key too
    leg.rekey()
    leg.offer()
    scene.wait(4)
    leg.bye()


def hold(scene, voices):
    anna = phone(scene, "a", ANNA, "Anna", voices)
    phone(scene, "b", BERT, "Bert", voices)
    leg = anna.call(*BERT)
    scene.wait(3)
    leg.offer(direction="inactive")
    scene.wait(2.5)
    leg.offer()
    scene.wait(3.5)
    leg.bye()


def blind(scene, voices):
    anna, bert = phone(scene, "a", ANNA, "Anna", voices), phone(scene, "b", BERT, "Bert", voices)
    phone(scene, "c", CORA, "Cora", voices)
    leg = anna.call(*BERT)
    scene.wait(4)
    leg.request("REFER", f"Refer-To: <sip:{CORA[0]}@{CORA[1]}>\r\nReferred-By: {anna.address_of_record}\r\n")
    scene.wait(5)
    bert.legs[-1].bye()


def attended(scene, voices):
    anna, bert = phone(scene, "a", ANNA, "Anna", voices), phone(scene, "b", BERT, "Bert", voices)
    phone(scene, "c", CORA, "Cora", voices)
    leg = anna.call(*BERT)
    scene.wait(3)
    leg.offer(direction="inactive")
    scene.wait(0.3)
    asked = anna.call(*CORA)
    scene.wait(2.7)
    replaces = urllib.parse.quote(asked.replaces(), safe="")
    leg.request("REFER", f"Refer-To: <sip:{CORA[0]}@{CORA[1]}?Replaces={replaces}>\r\nReferred-By: {anna.address_of_record}\r\n")
    scene.wait(4)
    bert.legs[-1].bye()


def b2bua(scene, voices):
    anna = phone(scene, "a", ANNA, "Anna", voices)
    phone(scene, "b", BERT, "Bert", voices)
    Switch(scene, "c", CORA[1], BERT)
    leg = anna.call(BERT[0], CORA[1])
    scene.wait(8)
    leg.bye()


SCENES = {"call": call, "over": over, "out": out, "rekey": rekey, "hold": hold, "blind": blind, "attended": attended, "b2bua": b2bua}


def main():
    name, *words = sys.argv[1].split(":") if len(sys.argv) == 4 else [""]
    if name not in SCENES:
        sys.exit(__doc__)
    scene = Scene(os.environ["LAB_PREFIX"], sys.argv[2])
    SCENES[name](scene, pathlib.Path(sys.argv[3]), *words)
    scene.wait(0.5)
    still = [(phone.host, leg.call_id) for phone in scene.phones for leg in phone.legs if leg.talks]
    if still:
        scene.fail(f"these legs are still up at the end: {still}")


main()
