"""An unmodified program of a pod: reads its secret files, knows nothing of us. Standard library only.

`serve`: answers {"read": [paths]} on standard input, a JSON line each; {"hold": path, "bytes": n} begins to read a
file, {"rest": true} reads the rest of it.
`loop PATH...`: reads them over and over until told to stop (SIGTERM), and then prints what it met. A round's values
must be of one version: each begins with its version's tag and a colon.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time

PAUSE_S = 0.0005


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def answer(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            return {"value": base64.b64encode(file.read()).decode()}
    except OSError as error:
        return {"errno": error.errno}


def of_descriptor(descriptor: int | None, count: int | None) -> dict[str, object]:
    assert descriptor is not None
    parts = []
    try:
        while part := os.read(descriptor, count or 65536):
            parts.append(part)
            if count:
                break
    except OSError as error:
        return {"errno": error.errno}
    return {"value": base64.b64encode(b"".join(parts)).decode()}


def serve() -> None:
    say("ready")
    held: int | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "hold" in asked:
            held = os.open(asked["hold"], os.O_RDONLY)
            say(json.dumps([of_descriptor(held, asked["bytes"])]))
        elif "rest" in asked:
            say(json.dumps([of_descriptor(held, None)]))
        else:
            say(json.dumps([answer(path) for path in asked["read"]]))


def loop(paths: list[str]) -> None:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    rounds = 0
    faults: list[str] = []
    versions: list[str] = []
    say("ready")
    while not stopped:
        tags = []
        for path in paths:
            try:
                with open(path, "rb") as file:
                    value = file.read()
                tags.append(value.partition(b":")[0].decode(errors="replace"))
                if not value.endswith(b":end"):
                    faults.append(f"torn or empty after {rounds} rounds: {len(value)} bytes of {path}")
            except OSError as error:
                faults.append(f"errno {error.errno} after {rounds} rounds: {path}")
        if len(set(tags)) > 1:
            faults.append(f"versions {tags} in one round")
        if tags and (not versions or versions[-1] != tags[-1]):
            versions.append(tags[-1])
        rounds += 1
        time.sleep(PAUSE_S)
    say(json.dumps({"rounds": rounds, "faults": faults[:20], "versions": versions}))


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else loop(sys.argv[2:])
