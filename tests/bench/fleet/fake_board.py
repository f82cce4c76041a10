"""In the place of ssh: a board whose repeats take as long as their window, and that has nothing else on it."""

from __future__ import annotations

import json
import os
import sys
import time


def say(verb: str, content: object = None) -> None:
    sys.stdout.write(f"{verb} {json.dumps(content)}\n")
    sys.stdout.flush()


def child(kind: str, **fields: object) -> None:
    sys.stdout.write(f"child {kind} {json.dumps(fields)}\n")
    sys.stdout.flush()


def main() -> None:
    told = json.loads(os.environ["FAKE_BOARD"])
    say("jouletune-board", told)
    window_s = 0.0
    for line in sys.stdin:
        verb, _, rest = line.partition(" ")
        content = json.loads(rest)
        if verb == "clock":
            say("clock", time.monotonic())
        elif verb == "look":
            state = {"temperature_c": 50.0, "frequency_hz": 1e9, "governor": "schedutil"}
            say("look", {"state": state, "load_s": [time.monotonic() * 0.01, 4 * time.monotonic(), 0.0]})
        elif verb == "lacking":
            say("lacking", {"ok": []})
        elif verb == "tree":
            say("tree", {"ok": "/there"})
        elif verb == "probe":
            child("Probed", device_name="fake", methods_sha256={})
            say("ended")
        elif verb == "cell":
            window_s = content["window_s"]
            child("Ready")
        elif (verb, content) == ("to", "go"):
            t0_s = time.monotonic()
            time.sleep(max(window_s, 0.05))
            child("Trained", t0_s=t0_s, t1_s=time.monotonic(), executions=1, spans=[], rhythm=[])
        elif (verb, content) == ("to", "release"):
            child("WorkFigures", **json.loads(os.environ["FAKE_FIGURES"]))
            say("ended")


main()
