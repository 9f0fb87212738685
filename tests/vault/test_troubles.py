"""What goes wrong with one secret while a pod runs: its last good value is served all the time, the trouble is told,
and it is over within seconds of its remedy. All at once, so that each is seen to be its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from tests.agent.harness import until
from tests.agent.opening import opened
from tests.needs import kernel_lacks, need
from tests.vault.harness import flaky as faults
from tests.vault.harness.flaky import Fault, Flaky
from tests.vault.harness.server import VaultServer, new_path
from tests.vault.kept import Kept, value
from tests.vault.nodes import VaultNode

RECOVERS_S: Final = 5.0
NOTICED_S: Final = 15.0
"""An answer is waited for ten seconds."""


@pytest.fixture
def node() -> Iterator[VaultNode]:
    need(not kernel_lacks(), kernel_lacks() or "")
    with opened(VaultNode) as made:
        yield made


Begins = Callable[[Kept, Flaky, str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Trouble:
    """How it begins and ends; what is said of the secret; the metric's `kind`."""

    begins: Begins
    words: str
    kind: str


@contextmanager
def forbidden(kept: Kept, flaky: Flaky, name: str) -> Iterator[None]:
    kept.vault.set_policy(kept.policies[name])
    yield
    kept.allow(name)


@contextmanager
def removed(kept: Kept, flaky: Flaky, name: str) -> Iterator[None]:
    kept.vault.delete(f"auth/{kept.jwt.mount}/role/{name}")
    yield
    kept.admit(name)


def deleted(kind: str) -> Begins:
    @contextmanager
    def begins(kept: Kept, flaky: Flaky, name: str) -> Iterator[None]:
        kept.vault.delete(f"{kept.kv}/{kind}/{name}")
        yield
        kept.write(name, 2)

    return begins


@contextmanager
def throttled(kept: Kept, flaky: Flaky, name: str) -> Iterator[None]:
    quota = f"sys/quotas/rate-limit/{new_path('quota')}"
    kept.vault.write(quota, path=f"{kept.kv}/metadata/{name}", rate=1, interval="60s")
    yield
    kept.vault.delete(quota)


def answered(fault: Fault) -> Begins:
    return lambda kept, flaky, name: flaky.failing(fault, on=f"/{name}")


TROUBLES: Final = {
    "forbidden": Trouble(forbidden, "Vault forbids '.*/data/forbidden'", "denied"),
    "removed": Trouble(removed, "Vault has no role 'removed'", "login"),
    "deleted": Trouble(deleted("data"), "version 1 is deleted", "not-found"),
    "gone": Trouble(deleted("metadata"), "there is nothing at", "not-found"),
    "throttled": Trouble(throttled, "it limits the rate of requests", "throttled"),
    "broken": Trouble(answered(faults.answers(500, "plugin")), r"was 500 \(plugin\)", "unavailable"),
    "reset": Trouble(answered(faults.resets()), "ended before the answer", "unavailable"),
    "halved": Trouble(answered(faults.half_a_body()), "ended before the answer", "unavailable"),
    "garbled": Trouble(answered(faults.garbles()), "is not Vault's JSON", "bad-answer"),
    "astray": Trouble(answered(faults.standby("http://127.0.0.1:1")), "an address without TLS", "standby"),
    "hanging": Trouble(answered(faults.silent()), "no answer within its time", "timeout"),
}
LED: Final = "led"
"""This one is asked for at a standby that leads to the active server."""


async def test_each_secret_has_its_own_trouble_and_its_last_good_value(
    node: VaultNode, vault: VaultServer, flaky: Flaky
) -> None:
    kept = Kept.of(vault, *TROUBLES, LED)
    node.reads_from(vault, url=flaky.url)
    await node.started()
    pod = await kept.shown_by(node)
    reader = node.reader(pod, *kept.policies)

    def told(name: str) -> bool:
        path = f"vault:{kept.kv}/data/{name}?"
        return any(
            who.startswith(path) and re.search(TROUBLES[name].words, why) for who, why in node.troubles().items()
        )

    with ExitStack() as stack:
        stack.enter_context(flaky.failing(faults.standby(vault.url), on=f"/{LED}"))
        for name, trouble in TROUBLES.items():
            stack.enter_context(trouble.begins(kept, flaky, name))
        for name in TROUBLES:
            await until(lambda name=name: told(name), f"{name} is told", NOTICED_S)  # type: ignore[misc]
        assert node.metric("kernelsecret_source_up", source="vault") == 0
        for trouble in TROUBLES.values():
            assert node.metric("kernelsecret_source_errors_total", source="vault", kind=trouble.kind) >= 1
        for name in kept.policies:
            if name not in ("deleted", "gone"):  # what is written is there again
                kept.write(name, 2)
        await node.shows(pod, LED, value(LED, 2).encode())
        assert node.read(pod, *TROUBLES) == [value(name, 1).encode() for name in TROUBLES]
        problems = {secret["path"].partition("?")[0].rpartition("/")[2]: secret["problem"] for secret in node.served()}
        for name, trouble in TROUBLES.items():
            assert re.search(trouble.words, problems[name]), name
        assert problems[LED] == ""
        mended = time.monotonic()
    for name in TROUBLES:
        left_s = mended + RECOVERS_S - time.monotonic()
        await until(lambda name=name: node.read(pod, name) == [value(name, 2).encode()], f"{name} is fresh", left_s)  # type: ignore[misc]
    await until(lambda: not node.troubles(), "nothing is wrong any more")
    assert node.metric("kernelsecret_source_up", source="vault") == 1
    assert reader.finish().faults == []
    await node.unpublish(pod)
