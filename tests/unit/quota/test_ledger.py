"""The ledger against a plain model of it, and the refusals' words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.delivery.quota import Ledger, Usage
from agent.model import Quota
from kernelsecret.errors import Code, Refused

VOLUMES = st.sampled_from(["v0", "v1", "v2", "v3"])
BYTES = st.integers(0, 60)
FILES = st.integers(0, 4)
BOUND = st.none() | st.integers(0, 100)
QUOTAS = st.builds(Quota, BOUND, st.none() | st.integers(0, 8), st.none() | st.integers(0, 3))
OWNERS = {"v0": ("n0", "p0"), "v1": ("n0", "p0"), "v2": ("n0", "p1"), "v3": ("n1", "p2")}


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of calls: totals are the sums of the entries, and what is granted never goes over a bound."""

    @initialize(pod=QUOTAS, namespace=QUOTAS)
    def begin(self, pod: Quota, namespace: Quota) -> None:
        self.ledger = Ledger()
        self.pod, self.namespace = pod, namespace
        self.entries: dict[str, tuple[int, int]] = {}

    @rule(volume=VOLUMES, bytes_=BYTES, files=FILES)
    def reserve(self, volume: str, bytes_: int, files: int) -> None:
        self._try(volume, bytes_, files, resize=False)

    @rule(volume=VOLUMES, bytes_=BYTES)
    def resize(self, volume: str, bytes_: int) -> None:
        if volume in self.entries:
            self._try(volume, bytes_, self.entries[volume][1], resize=True)
        else:
            with pytest.raises(Refused):
                self.ledger.resize(volume, bytes_)

    @rule(volume=VOLUMES)
    def release(self, volume: str) -> None:
        self.ledger.release(volume)
        self.entries.pop(volume, None)

    def _try(self, volume: str, bytes_: int, files: int, *, resize: bool) -> None:
        wanted = {**self.entries, volume: (bytes_, files)}
        grows = self._grows(volume, bytes_, files)
        fits = all(
            not grows[index] or bound is None or total <= bound
            for key, quota in zip(OWNERS[volume], (self.namespace, self.pod), strict=True)
            for index, (total, bound) in enumerate(
                zip(self._sum(wanted, key), (quota.bytes_, quota.files, quota.volumes), strict=True)
            )
        )
        refused = self._call(volume, bytes_, files, resize)
        assert (refused is None) is fits
        if refused is None:
            self.entries = wanted
        else:
            assert refused.code is Code.RESOURCE_EXHAUSTED
            assert refused.field.startswith("spec.limits.")

    def _call(self, volume: str, bytes_: int, files: int, resize: bool) -> Refused | None:
        try:
            if resize:
                self.ledger.resize(volume, bytes_)
            else:
                self.ledger.reserve(*OWNERS[volume], volume, bytes_, files, self.namespace, self.pod)
        except Refused as refused:
            return refused
        return None

    def _grows(self, volume: str, bytes_: int, files: int) -> tuple[bool, bool, bool]:
        before = self.entries.get(volume)
        return (True, True, True) if before is None else (bytes_ > before[0], files > before[1], False)

    @staticmethod
    def _sum(entries: dict[str, tuple[int, int]], key: str) -> tuple[int, int, int]:
        own = [entry for volume, entry in entries.items() if key in OWNERS[volume]]
        return sum(entry[0] for entry in own), sum(entry[1] for entry in own), len(own)

    @invariant()
    def totals_are_sums(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for key in ("n0", "n1"):
            assert self.ledger.usage(key) == Usage(*self._sum(self.entries, key))
        for key in ("p0", "p1", "p2"):
            assert self.ledger.pod_usage(key) == Usage(*self._sum(self.entries, key))
        assert set(self.ledger.by_namespace()) == {OWNERS[volume][0] for volume in self.entries}


TestLedger = LedgerMachine.TestCase


@pytest.mark.parametrize(
    ("namespace", "pod", "field"),
    [
        (Quota(bytes_=9), Quota(), "spec.limits.namespace.bytes"),
        (Quota(files=1), Quota(), "spec.limits.namespace.files"),
        (Quota(volumes=0), Quota(), "spec.limits.namespace.volumes"),
        (Quota(), Quota(bytes_=9), "spec.limits.pod.bytes"),
        (Quota(), Quota(files=1), "spec.limits.pod.files"),
        (Quota(), Quota(volumes=0), "spec.limits.pod.volumes"),
    ],
)
def test_the_bound_that_is_exceeded_is_named(namespace: Quota, pod: Quota, field: str) -> None:
    ledger = Ledger()
    with pytest.raises(Refused) as caught:
        ledger.reserve("n", "p", "v", 10, 2, namespace, pod)
    assert caught.value.field == field
    assert ledger.usage("n") == Usage()


def test_a_bound_that_was_lowered_refuses_growth_but_not_giving_back() -> None:
    ledger = Ledger()
    ledger.adopt("n", "p", "v", 100, 2, Quota(bytes_=50), Quota())
    ledger.resize("v", 90)
    with pytest.raises(Refused):
        ledger.resize("v", 91)
    assert ledger.usage("n") == Usage(90, 2, 1)
    assert ledger.quota("n") == Quota(bytes_=50)


def test_a_volume_of_another_pod_is_not_taken_over() -> None:
    ledger = Ledger()
    ledger.reserve("n", "p", "v", 1, 1, Quota(), Quota())
    with pytest.raises(Refused) as caught:
        ledger.reserve("n", "q", "v", 1, 1, Quota(), Quota())
    assert caught.value.code is Code.ALREADY_EXISTS


@given(BYTES)
def test_releasing_what_was_never_reserved_changes_nothing(bytes_: int) -> None:
    ledger = Ledger()
    ledger.release("never")
    ledger.reserve("n", "p", "v", bytes_, 1, Quota(), Quota())
    ledger.release("v")
    ledger.release("v")
    assert ledger.by_namespace() == {}
