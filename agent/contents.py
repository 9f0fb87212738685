"""What a volume is going to show: all its secrets fetched side by side, in their shapes, within bounds of time and
size.

Kubelet waits two minutes for a publish. It gets a clear answer long before, and asks again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from agent.model import SecretRef, SecretVersion, VolumePlan
from agent.rotation import Rotator
from agent.shaping import shaped
from agent.showing import Showing
from kernelsecret.errors import Code, Refused

WITHIN_S = 20.0
AT_ONCE = 16
"""Secrets of one volume that are asked for at a time."""


class Contents:
    """Has the current values of volumes. Use it on one event loop."""

    def __init__(self, rotator: Rotator, showing: Showing, *, within_s: float = WITHIN_S) -> None:
        self._rotator, self._showing, self._within_s = rotator, showing, within_s

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
            await self._bring(refs)
            # Nothing waits from here on: what changed while others were fetched is what is shown.
            versions = {ref: shaped(self._rotator.settle(ref), [plan]) for ref in refs}
        _check_values(plan, versions)
        return versions

    def published(self, versions: Mapping[SecretRef, SecretVersion]) -> None:
        """A volume shows these now."""
        for version in versions.values():
            self._showing.published(version)

    async def _bring(self, refs: list[SecretRef]) -> None:
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
            task.result()
        if waiting:
            late = min(tasks[task] for task in waiting)
            why = f"was not read within {self._within_s:g} s"
            raise Refused(Code.UNAVAILABLE, str(late), why, "look whether its source answers; kubelet tries again")


def refs_of(plan: VolumePlan) -> list[SecretRef]:
    """The secrets that a volume shows, sorted."""
    return sorted({file.ref for file in plan.files})


def _check_values(plan: VolumePlan, versions: Mapping[SecretRef, SecretVersion]) -> None:
    """Every key is there and within its bound. Raises Refused with the secret and the key named."""
    for file in plan.files:
        values = versions[file.ref].values
        if file.key not in values:
            there = ", ".join(sorted(key for key in values if "/" not in key)) or "none"
            why = f"has no key {file.key!r} for the file {file.name!r}"
            raise Refused(Code.NOT_FOUND, f"{file.ref}", why, f"it has {there}")
        if (size := len(values[file.key])) > plan.max_file_bytes:
            what = f"file {file.name!r}" if file.shape else f"key {file.key!r}"
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                "spec.limits.maxFileBytes",
                f"{what} of {file.ref} has {size} bytes, more than {plan.max_file_bytes}",
                "raise the limit (at most 1Mi), or store less",
            )
