"""The client against the agent's own admin server, on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.observe.admin import AdminServer
from agent.observe.events import EventHub
from agent.observe.records import Unpublished
from kernelsecret.cli import status_command, trace_command
from kernelsecret.cli.admin_client import AdminClient, NoAgent
from kernelsecret.cli.failures import CommandError, Exit

STATUS: dict[str, Any] = {"version": "1", "node": "n", "pid": 1, "uptime_s": 1.0, "probe": None, "volumes": []}


class Agent:
    """An admin server on a loop of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hub = EventHub()
        self._stopping = threading.Lock()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._server = AdminServer(path, lambda: STATUS, self.hub, allowed_uid=os.geteuid())
        self._run(self._server.start())

    def say(self, pod: str) -> None:
        """Publish an event."""
        record = Unpublished(time_ns=0, volume_id="v", namespace="shop", pod=pod, pod_uid="u", reason="requested")
        self.loop.call_soon_threadsafe(self.hub.publish, record)

    def stop(self) -> None:
        """End. Idempotent."""
        with self._stopping:
            if not self.loop.is_closed():
                self._run(self._server.stop())
                self.loop.call_soon_threadsafe(self.loop.stop)
                self._thread.join()
                self.loop.close()

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    (tmp_path / "run").mkdir(mode=0o700)
    made = Agent(tmp_path / "run" / "admin.sock")
    yield made
    made.stop()


def test_the_status_is_the_agents(agent: Agent) -> None:
    assert AdminClient(agent.path).status() == STATUS


def test_status_prints_one_object(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_command.run(agent.path, as_json=True) == Exit.OK
    assert json.loads(capsys.readouterr().out) == STATUS


def test_events_come_as_they_happen_until_the_agent_ends(agent: Agent) -> None:
    events = AdminClient(agent.path).events()
    agent.say("one")
    assert json.loads(next(events))["pod"] == "one"
    agent.say("two")
    assert json.loads(next(events))["pod"] == "two"
    agent.stop()
    assert list(events) == []


def test_earlier_events_can_be_seen_again(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    for pod in ("one", "two", "three"):
        agent.say(pod)
    assert trace_command.run(agent.path, replay=2, follow=False, as_json=True) == Exit.OK
    pods = [json.loads(line)["pod"] for line in capsys.readouterr().out.splitlines()]
    assert pods == ["two", "three"]


def test_trace_waits_for_an_agent_that_went_away(
    agent: Agent, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def stop_the_agent(_event: object) -> str:
        threading.Thread(target=agent.stop).start()
        return "an event"

    def give_up_later(_seconds: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            raise KeyboardInterrupt

    agent.say("one")
    monkeypatch.setattr(trace_command, "event_line", stop_the_agent)
    monkeypatch.setattr(time, "sleep", give_up_later)
    assert trace_command.run(agent.path, replay=1, follow=True, as_json=False) == Exit.OK
    shown = capsys.readouterr()
    assert shown.out == "an event\n"
    assert "waiting for it to come back" in shown.err


def test_what_the_agent_refuses_is_said_in_its_words(agent: Agent) -> None:
    with pytest.raises(CommandError, match="the agent refused: replay: a number of events is needed"):
        AdminClient(agent.path).events(replay=-1)


def test_nobody_at_the_socket_is_no_agent(tmp_path: Path) -> None:
    with pytest.raises(NoAgent):
        AdminClient(tmp_path / "none").status()
