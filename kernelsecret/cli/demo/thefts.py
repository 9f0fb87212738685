"""Four attempts to read the secret. Each counts as refused only where it was made, met the volume's file and failed,
and the agent heard of it from the kernel."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

from kernelsecret.cli.admin_client import AdminClient
from kernelsecret.cli.demo.programs import FOLDER, HOLED_APPLICATION, ORPHAN, THIEF
from kernelsecret.cli.demo.stage import NAMESPACE, VOLUME, Tenant, new_uid
from kernelsecret.cli.simulation.pod import Container, Pod, python
from kernelsecret.cli.simulation.process import Finished

REFUSAL = "Argument list too long"
"""What E2BIG reads like: the kernel program's way to fail a read with nothing handed out."""
HEARD_WITHIN_S = 5.0
THIEF_ARGV = ("/bin/sh", "-c", THIEF, "sh", FOLDER)


class Alarm:
    """Hears the agent's events; which rules were broken since it was set."""

    def __init__(self, client: AdminClient) -> None:
        self._heard: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, args=(client.events(),), daemon=True).start()

    def hears(self, rule: str) -> bool:
        """Wait for one refusal by this rule, and take it."""
        with self._changed:
            heard = self._changed.wait_for(lambda: rule in self._heard, HEARD_WITHIN_S)
            if heard:
                self._heard.remove(rule)
        return heard

    def _listen(self, events: Iterator[bytes]) -> None:
        for line in events:
            event = json.loads(line)
            if event.get("kind") == "refused":
                with self._changed:
                    self._heard.append(event["rule"])
                    self._changed.notify_all()


def other_pod(payments: Tenant, alarm: Alarm) -> bool:
    """A second pod reads through the first one's volume, as if it had been mounted by mistake or malice."""
    with Pod(new_uid(), NAMESPACE, "curious-0") as pod:
        thief = pod.container("thief", THIEF_ARGV, {VOLUME: payments.target})
        return _failed(thief.process.finish()) and alarm.hears("pod")


def entered_shell(app: Container, alarm: Alarm) -> bool:
    """Somebody enters the running container."""
    return _failed(app.enter(THIEF_ARGV).finish()) and alarm.hears("app")


def orphan(app: Container, alarm: Alarm) -> bool:
    """What was entered forks twice and ends; the container's init adopts what is left."""
    said = app.enter([python(), "-I", "-S", "-c", ORPHAN, FOLDER]).finish().stdout.decode()
    return said.splitlines() == ["parent 1", f"refused {REFUSAL}"] and alarm.hears("app")


def spawned_shell(orders: Tenant, alarm: Alarm, publish: Callable[[], object]) -> bool:
    """An application under the rule `main` can read, and the shell that it spawns cannot."""
    with Pod(orders.pod.uid, NAMESPACE, orders.pod.name) as pod:
        publish()
        argv = [python(), "-I", "-c", HOLED_APPLICATION, FOLDER]
        application = pod.container("app", argv, {VOLUME: orders.target}, stdin=True)
        stdin = application.process.stdin
        assert stdin is not None
        stdin.write(THIEF.encode() + b"\n")
        stdin.flush()
        said = application.process.finish().stdout.decode().splitlines()
    itself, shell = said[0], said[-1]
    return itself == "itself True" and " nothing " in shell and REFUSAL in shell and alarm.hears("main")


def _failed(finished: Finished) -> bool:
    return REFUSAL.encode() in finished.stderr and not finished.stdout and finished.status != 0
