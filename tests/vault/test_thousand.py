"""A thousand secrets of one node meet one outage: nothing is lost, nobody runs Vault down when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.agent.opening import opened
from tests.agent.pods import Program
from tests.agent.tree import Pod
from tests.needs import kernel_lacks, need
from tests.vault.doors import SUBJECT
from tests.vault.gate import Gate
from tests.vault.harness.audit import Request
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from tests.vault.nodes import VaultNode, as_pod

VOLUMES, EACH = 16, 63
CHANGED: Final = 8
"""One of so many has another value after the outage."""
RECOVERS_S: Final = 5.0
WINDOW: Final = timedelta(milliseconds=100)
MOST_IN_WINDOW: Final = 200
"""Requests that Vault answers within one window, of more than 1,100 after an outage: they are spread over a second.
About 120 were seen."""
CONNECTIONS: Final = 32 + 2
"""What may be under way at a time, and looks at whether Vault serves."""
LOOKS_S: Final = 0.1
"""Between two looks: the machine is the agent's and Vault's meanwhile."""
GROWS_KB: Final = 4096


@pytest.fixture
def node() -> Iterator[VaultNode]:
    need(not kernel_lacks(), kernel_lacks() or "")
    with opened(VaultNode) as made:
        yield made


@dataclass
class Many:
    """Secrets 0 to 1007, of which each pod shows 63."""

    vault: VaultServer
    jwt: JwtAuth
    kv: str
    pods: list[tuple[Pod, Program]]

    def write(self, number: int, *, each: int = 1) -> None:
        """A new value into one of `each`."""

        def write_one(at: int) -> None:
            self.vault.write(f"{self.kv}/data/{at}", data={"value": f"{number}-{at}"})

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write_one, range(0, VOLUMES * EACH, each)))

    async def published(self, node: VaultNode) -> None:
        for volume in range(VOLUMES):
            secrets = [
                {
                    "name": f"s{at}",
                    "source": {"vault": as_pod(self.jwt, f"{self.kv}/data/{volume * EACH + at}", "web")},
                    "files": [{"path": str(at), "key": "value"}],
                }
                for at in range(EACH)
            ]
            node.interceptor(f"i{volume}", secrets)
            pod = node.pod(f"i{volume}", f"i{volume}")
            await node.publish_as(pod, self.jwt)
            self.pods.append((pod, node.program(pod)))

    def all_show(self, number: int) -> bool:
        """Whether every pod does."""
        return all(self.shows(volume, number) for volume in range(VOLUMES))

    def shows(self, volume: int, number: int) -> bool:
        """Whether a pod reads the values that were written then, and of those that were not changed the first."""
        pod, program = self.pods[volume]
        places = range(volume * EACH, (volume + 1) * EACH)
        found = program.read(*(pod.target / str(at) for at in range(EACH)))
        return found == [f"{1 if at % CHANGED else number}-{at}".encode() for at in places]


def most_at_once(requests: list[Request]) -> int:
    """How many were answered within one window, at most."""
    times, first, most = sorted(one.at for one in requests), 0, 0
    for last, at in enumerate(times):
        while at - times[first] > WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most


def memory_kb(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


async def soon(done: Callable[[], bool], what: str) -> None:
    """As `until`, with looks that leave the machine to the agent and Vault."""
    ends = time.monotonic() + RECOVERS_S
    while not done():
        assert time.monotonic() < ends, f"in {RECOVERS_S:g} s not: {what}"
        await asyncio.sleep(LOOKS_S)


async def test_a_thousand_secrets_are_fresh_soon_after_an_outage_and_come_in_no_herd(
    node: VaultNode, vault: VaultServer, kv: str, jwt: JwtAuth
) -> None:
    jwt.add_role("web", SUBJECT, vault.policy(f"{kv}/*: read"))
    many = Many(vault, jwt, kv, [])
    many.write(1)
    with Gate.before(vault) as gate:
        node.reads_from(vault, url=gate.url)
        await node.started()
        await many.published(node)
        memory = []
        for number in (2, 3):
            with gate.shut():
                await soon(lambda: "vault" in node.troubles(), "the outage is told")
                many.write(number, each=CHANGED)
                await soon(lambda: len(node.troubles()) == 1 + VOLUMES * EACH, "so is each secret")
                assert many.all_show(number - 1)
                gate.most, mark = 0, vault.audit.mark()

            def is_fresh(number: int = number, mark: int = mark) -> bool:
                looked_at = {one.path for one in vault.audit.requests(f"{kv}/metadata/", since=mark)}
                return len(looked_at) == VOLUMES * EACH and many.all_show(number)

            await soon(is_fresh, "every secret is looked at, and every new value shown")
            requests = vault.audit.requests(since=mark)
            assert most_at_once(requests) <= MOST_IN_WINDOW
            assert not [one for one in requests if one.is_login]
            assert gate.most <= CONNECTIONS
            await soon(lambda: not node.troubles(), "nothing is wrong any more")
            memory.append(memory_kb(node.pid))
    assert memory[1] - memory[0] <= GROWS_KB
