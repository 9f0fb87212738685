"""Every question of the table, asked in one pod: before a rotation, and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from kernelsecret.cli.simulation.pod import SECRETS, Pod, python
from kernelsecret.cli.simulation.process import Finished
from tests.agent.harness import until

NAME = "payments"
"""The interceptor: its files are in the folder of this name."""
FOLDER = f"{SECRETS}/{NAME}"
FILE = f"{FOLDER}/password"
DOTTED = f"{FOLDER}/tls.crt"
FIRST, SECOND = "0123456789", "9876543210!"
PROGRAM = Path(__file__).with_name("observer.py")
PLAIN = ("dots", "size", "seek", "pread", "map", "sendfile")


class Place(Protocol):
    """A pod with the files of one way of delivery."""

    pod: Pod
    volumes: Mapping[str, Path]
    environment: Mapping[str, str]

    def change(self, value: str) -> None:
        """Change the secret at its source."""


class Observer:
    """The program, as the first of a container."""

    def __init__(self, place: Place) -> None:
        script = PROGRAM.read_text()
        command = [python(), "-I", "-u", "-c", script]
        self.container = place.pod.container("app", command, place.volumes, environment=place.environment, stdin=True)

    def ask(self, question: str, path: str = FILE) -> str:
        """Its answer."""
        process = self.container.process
        assert process.stdin is not None
        process.stdin.write(json.dumps([question, path]).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return line.decode().strip()


async def answers(place: Place) -> dict[str, str]:
    """What the pod meets, by the name of the question."""
    one, watching = Observer(place), Observer(place)
    folder = Observer(place)
    found = {name: one.ask(name) for name in PLAIN[1:]}
    found["dots"] = "yes" if one.ask("read", DOTTED) == FIRST else "no"
    found["entered"] = _read_by(one.container.enter(["/bin/cat", FILE]).finish())
    assert one.ask("hold") == FIRST
    assert watching.ask("watch") == folder.ask("watch", FOLDER) == "watched"
    static = place.pod.container("static", ["/bin/busybox", "cat", FILE], place.volumes, environment=place.environment)
    found["static"] = _read_by(static.process.finish())
    place.change(SECOND)
    await until(lambda: one.ask("read") == SECOND, "the new value is read")
    found["again"] = "the new value"
    found["held"] = one.ask("held")
    one.ask("let_go")
    found["file_events"] = await _event(watching, "IN_MODIFY", "IN_ATTRIB")
    found["folder_events"] = await _event(folder, "IN_MOVED_TO")
    return found


async def _event(observer: Observer, *wanted: str) -> str:
    """The first of the wanted ones that comes; watchers are told when the value is shown already."""
    seen: set[str] = set()

    def told() -> bool:
        seen.update(observer.ask("seen").split(", "))
        return not seen.isdisjoint(wanted)

    await until(told, "watchers are told")
    return next(one for one in wanted if one in seen)


def _read_by(ended: Finished) -> str:
    if ended.stdout == FIRST.encode() and not ended.status:
        return "reads"
    assert ended.status, ended.stdout
    assert not ended.stdout
    return "refused"
