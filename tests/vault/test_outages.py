"""Vault as a whole is away while a pod runs: the last good values are served all the time, the outage is told, and it
is over within seconds of its remedy.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.agent.harness import until
from tests.agent.opening import opened
from tests.needs import kernel_lacks, need
from tests.vault.gate import Gate
from tests.vault.harness.server import VaultServer
from tests.vault.kept import Kept, value
from tests.vault.nodes import VaultNode

RECOVERS_S: Final = 5.0
NOTICED_S: Final = 15.0
LATE_TOLD_S: Final = 8.0
"""After two seconds it is seen that Vault as a whole does not answer; that takes two more, on a quiet machine."""


@pytest.fixture
def node() -> Iterator[VaultNode]:
    need(not kernel_lacks(), kernel_lacks() or "")
    with opened(VaultNode) as made:
        yield made


@pytest.mark.parametrize(
    ("begin", "end", "words", "kind"),
    [
        (VaultServer.seal, VaultServer.unseal, "it is sealed", "sealed"),
        (VaultServer.kill, VaultServer.start, "cannot be reached", "unavailable"),
    ],
    ids=["sealed", "killed"],
)
async def test_a_vault_that_is_away_is_told_and_missed_by_no_reader(
    node: VaultNode,
    own_vault: VaultServer,
    begin: Callable[[VaultServer], None],
    end: Callable[[VaultServer], None],
    words: str,
    kind: str,
) -> None:
    names = ("one", "two")
    kept = Kept.of(own_vault, *names)
    node.reads_from(own_vault)
    await node.started()
    pod = await kept.shown_by(node)
    reader = node.reader(pod, *names)
    begin(own_vault)
    try:
        await until(lambda: len(node.troubles()) == 3, "Vault and both secrets are told of", NOTICED_S)
        assert all(re.search(words, why) for why in node.troubles().values())
        assert all(re.search(words, secret["problem"]) for secret in node.served())
        assert node.metric("kernelsecret_source_errors_total", source="vault", kind=kind) >= 1
        late = node.pod("late", "all")
        token = node.token(late, kept.jwt)
        error = await node.refused(late, volume_context=token)
        assert error.code == "UNAVAILABLE"
        assert re.search(words, error.details)
        assert node.read(pod, *names) == [value(name, 1).encode() for name in names]
    finally:
        end(own_vault)
    back = time.monotonic()
    for name in names:
        kept.write(name, 2)
    fresh = [value(name, 2).encode() for name in names]
    await until(lambda: node.read(pod, *names) == fresh, "both are fresh", back + RECOVERS_S - time.monotonic())
    await until(lambda: not node.troubles(), "nothing is wrong any more")
    await node.publish(late, volume_context=token)
    assert node.read(late, *names) == fresh
    assert reader.finish().faults == []


async def test_who_waits_for_an_answer_that_never_comes_is_told_and_does_not_wait_on_when_vault_is_back(
    node: VaultNode, vault: VaultServer
) -> None:
    """As when a firewall drops what goes to Vault, or its machine is gone: no connection ends, none answers again."""
    names = ("one", "two")
    kept = Kept.of(vault, *names)
    with Gate.before(vault) as gate:
        node.reads_from(vault, url=gate.url)
        await node.started()
        pod = await kept.shown_by(node)
        reader = node.reader(pod, *names)
        with gate.losing():
            await until(lambda: "vault" in node.troubles(), "the outage is told", LATE_TOLD_S)
            assert "within its time" in node.troubles()["vault"]
            assert node.metric("kernelsecret_source_errors_total", source="vault", kind="timeout") >= 1
            for name in names:
                kept.write(name, 2)
        fresh = [value(name, 2).encode() for name in names]
        await until(lambda: node.read(pod, *names) == fresh, "both are fresh", RECOVERS_S)
        await until(lambda: not node.troubles(), "nothing is wrong any more")
        assert reader.finish().faults == []


async def test_an_agent_that_is_killed_while_vault_is_away_serves_on_and_finds_it_back(
    node: VaultNode, own_vault: VaultServer
) -> None:
    names = ("one", "two")
    kept = Kept.of(own_vault, *names)
    node.reads_from(own_vault)
    await node.started()
    pod = await kept.shown_by(node)
    reader = node.reader(pod, *names)
    own_vault.kill()
    node.kill()
    await node.started()
    await until(lambda: len(node.troubles()) == 3, "Vault and both secrets are told of", NOTICED_S)
    assert node.read(pod, *names) == [value(name, 1).encode() for name in names]
    mark = own_vault.audit.mark()
    own_vault.start()
    back = time.monotonic()
    for name in names:
        kept.write(name, 2)
    fresh = [value(name, 2).encode() for name in names]
    await until(lambda: node.read(pod, *names) == fresh, "both are fresh", back + RECOVERS_S - time.monotonic())
    await until(lambda: not node.troubles(), "nothing is wrong any more")
    assert not any(one.is_login for one in own_vault.audit.requests(since=mark)), "tokens outlive the agent"
    assert reader.finish().faults == []
