#!/usr/bin/env python3
"""Plays one scene with the lab's own phones (lib/agents.py): what baresip 1.0.0 cannot do.

    scenes.py hold|blind|attended|b2bua VOICES       (LAB_PREFIX names the lab; `lab scene` runs it)

VOICES is a folder with a.alaw, b.alaw and c.alaw: what Anna (10.99.0.1), Bert (…2) and Cora (…3) say.

  hold      Anna calls Bert, holds him (inactive) from second 3 to 5.5, goes on to 9
  blind     Anna calls Bert and at second 4 sends him on to Cora (REFER); the two talk to second 9
  attended  Anna calls Bert, holds him at second 3, asks Cora, and connects the two at second 6
            (REFER with Replaces); they talk to second 10
  b2bua     Anna calls Bert through a switch (host c) that has a dialog and RTP of its own with each
"""
import os
import pathlib
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
from agents import Phone, Scene, Switch  # noqa: E402

ANNA, BERT, CORA = ("4820001001", "10.99.0.1"), ("4830002002", "10.99.0.2"), ("4840003003", "10.99.0.3")


def phone(scene, host, party, name, voices):
    return Phone(scene, host, party[0], name, party[1], (voices / f"{host}.alaw").read_bytes())


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


SCENES = {"hold": hold, "blind": blind, "attended": attended, "b2bua": b2bua}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SCENES:
        sys.exit(__doc__)
    scene = Scene(os.environ["LAB_PREFIX"])
    SCENES[sys.argv[1]](scene, pathlib.Path(sys.argv[2]))
    scene.wait(0.5)
    still = [(phone.host, leg.call_id) for phone in scene.phones for leg in phone.legs if leg.talks]
    if still:
        scene.fail(f"these legs are still up at the end: {still}")


main()
