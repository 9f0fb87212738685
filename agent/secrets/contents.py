"""What a volume is going to show: all its secrets fetched side by side, in their shapes, within bounds of time and
size.

Kubelet waits two minutes for a publish. It gets a clear answer long before, and asks again by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from agent.model import SecretRef, SecretVersion, VolumePlan
from agent.secrets.rotation import Rotator
from agent.secrets.shaping import shaped
from agent.secrets.showing import Showing
from kernelsecret.errors import Code, Refused

WITHIN_S = 20.0
AT_ONCE = 16
"""Secrets of one volume that are asked for at a time."""


WAITS_S = 180.0
"""Kubelet tries a publish again after two minutes at most."""
MOST_WAITING = 1024


@dataclass(frozen=True, slots=True)
class _Refused:
    plan: VolumePlan
    ref: SecretRef
    why: str
    at_s: float


class Contents:
    """Has the current values of volumes. Use it on one event loop."""

    def __init__(
        self,
        rotator: Rotator,
        showing: Showing,
        *,
        within_s: float = WITHIN_S,
        count: Callable[[str, str], None] = lambda source, kind: None,
    ) -> None:
        """`count` hears of each secret that lacks a key: its source, and the kind of error."""
        self._rotator, self._showing, self._within_s, self._count = rotator, showing, within_s, count
        self._refused: dict[str, _Refused] = {}

    @contextmanager
    def holding(self, plan: VolumePlan) -> Iterator[None]:
        """What the plan shows stays watched meanwhile, and is looked at afterwards whether anybody shows it."""
        try:
            with self._rotator.holding(refs_of(plan)):
                yield
        finally:
            self._rotator.forget_unused()

    async def current(self, plan: VolumePlan) -> Mapping[SecretRef, SecretVersion]:
        """The current versions of all that a plan shows, as they are when this returns. Raises Refused where one is not
        to be had in time, lacks a key or has a value that is too long."""
        refs = refs_of(plan)
        with self._rotator.holding(refs):
            await self._bring(plan, refs)
            # Nothing waits from here on: what changed while others were fetched is what is shown.
            versions = {ref: self._settled(plan, ref) for ref in refs}
        self._refused.pop(plan.volume_id, None)
        return versions

    def refused(self) -> list[tuple[VolumePlan, SecretRef, str]]:
        """Volumes that wait for a secret that cannot be had: which, and why. Kubelet asks for them again and again; who
        is not asked for any more waits no more."""
        now = time.monotonic()
        self._refused = {key: one for key, one in self._refused.items() if now - one.at_s < WAITS_S}
        return [(one.plan, one.ref, one.why) for one in self._refused.values()]

    def forget(self, volume_id: str) -> None:
        """The volume has ended, or is not wanted any more. Idempotent."""
        self._refused.pop(volume_id, None)

    def _settled(self, plan: VolumePlan, ref: SecretRef) -> SecretVersion:
        try:
            version = shaped(self._rotator.settle(ref), [plan])
            _check_values(plan, version)
        except Refused as refusal:
            if isinstance(refusal, _NoKey):
                self._count(ref.source, "no-key")
            self._note(plan, ref, refusal)
            raise
        return version

    def _note(self, plan: VolumePlan, ref: SecretRef, refusal: Refused) -> None:
        while len(self._refused) >= MOST_WAITING:
            del self._refused[next(iter(self._refused))]
        self._refused[plan.volume_id] = _Refused(plan, ref, str(refusal), time.monotonic())

    def published(self, versions: Mapping[SecretRef, SecretVersion]) -> None:
        """A volume shows these now."""
        for version in versions.values():
            self._showing.published(version)

    async def _bring(self, plan: VolumePlan, refs: list[SecretRef]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def bring(ref: SecretRef) -> None:
            async with slots:
                await self._rotator.bring(ref)

        tasks = {asyncio.create_task(bring(ref)): ref for ref in refs}
        try:
            done, waiting = await asyncio.wait(tasks, timeout=self._within_s, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in sorted(done, key=tasks.__getitem__):
            error = task.exception()
            if isinstance(error, Refused):
                self._note(plan, tasks[task], error)
            if error is not None:
                raise error
        if waiting:
            late = min(tasks[task] for task in waiting)
            why = f"was not read within {self._within_s:g} s"
            refusal = Refused(Code.UNAVAILABLE, str(late), why, "look whether its source answers; kubelet tries again")
            self._note(plan, late, refusal)
            raise refusal


class _NoKey(Refused):
    """A secret lacks a key that a file is to show."""


def refs_of(plan: VolumePlan) -> list[SecretRef]:
    """The secrets that a volume shows, sorted."""
    return sorted({file.ref for file in plan.files})


def _check_values(plan: VolumePlan, version: SecretVersion) -> None:
    """Every key is there and within its bound. Raises Refused with the secret and the key named."""
    values = version.values
    for file in [file for file in plan.files if file.ref == version.ref]:
        if file.key not in values:
            there = ", ".join(sorted(key for key in values if "/" not in key)) or "none"
            why = f"has no key {file.key!r} for the file {file.name!r}"
            raise _NoKey(Code.NOT_FOUND, f"{file.ref}", why, f"it has {there}")
        if (size := len(values[file.key])) > plan.max_file_bytes:
            what = f"file {file.name!r}" if file.shape else f"key {file.key!r}"
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                "spec.limits.maxFileBytes",
                f"{what} of {file.ref} has {size} bytes, more than {plan.max_file_bytes}",
                "raise the limit (at most 1Mi), or store less",
            )
