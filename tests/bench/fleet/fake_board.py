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


AHEAD_S, DRIFT, JUMP_S = map(float, os.environ.get("FAKE_CLOCK", "0 0 0").split())
"""By how much the board's clock is ahead, gains each second, and jumps in the middle of a repeat's work."""

jumped_s = 0.0


def clock() -> float:
    return AHEAD_S + jumped_s + (1 + DRIFT) * time.monotonic()


def work(window_s: float) -> tuple[float, float]:
    global jumped_s  # noqa: PLW0603  # a clock is one
    t0_s = clock()
    time.sleep(max(window_s, 0.05) / 2)
    jumped_s += JUMP_S
    time.sleep(max(window_s, 0.05) / 2)
    return t0_s, clock()


def main() -> None:
    told = json.loads(os.environ["FAKE_BOARD"])
    say("jouletune-board", told)
    window_s = 0.0
    for line in sys.stdin:
        verb, _, rest = line.partition(" ")
        content = json.loads(rest)
        if verb == "clock":
            say("clock", clock())
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
            t0_s, t1_s = work(window_s)
            child("Trained", t0_s=t0_s, t1_s=t1_s, executions=1, spans=[], rhythm=[])
        elif (verb, content) == ("to", "release"):
            child("WorkFigures", **json.loads(os.environ["FAKE_FIGURES"]))
            say("ended")


main()
