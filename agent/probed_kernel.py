"""The kernel side of a starting agent: opened wherever there is one, and probed before new volumes rely on it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from agent.idmapped import with_idmapped
from agent.kernel.node import NodeFacts
from agent.kernel.programs import Tuning
from agent.model import EngineName
from agent.node_kernel import NodeKernel, has_pins, open_kernel
from agent.observe.conditions import Reason
from agent.probe import ProbeReport, may_pass, probe, report
from agent.settings import Settings
from agent.telling import Telling
from agent.upkeep import probe_once
from kernelsecret.errors import Code, KernelSecretError, Refused, said
from telemetry.logkeys import Event
from telemetry.logs import get_logger

PROBE_AGAIN_S = 60.0

log = get_logger("agent")


@dataclass(frozen=True, slots=True)
class ProbedKernel:
    """What there is of a kernel side, and what new volumes are served by."""

    kernel: NodeKernel | None
    report: ProbeReport
    may_pass: bool
    """The engine `iter` failed for a reason that may pass."""


async def open_probed(settings: Settings, facts: NodeFacts, telling: Telling, closing: AsyncExitStack) -> ProbedKernel:
    """The kernel side wherever there is one: new volumes need the probe's word, live ones are adopted without.

    Raises Refused where the node's volumes cannot be gone on with, or `iter` was asked for and does not work.
    """
    is_asked = settings.engine != EngineName.TMPFS.value
    reason = "" if is_asked else "KERNELSECRET_ENGINE asks for tmpfs"
    kernel, passes = None, False
    if is_asked or has_pins(settings.run_dir):
        try:
            tuning = Tuning(events_per_second=settings.events_per_second)
            kernel = open_kernel(
                settings.run_dir,
                facts,
                lambda error: telling.freeing_failed(said(error)),
                tuning,
                worked=telling.freeing_worked,
            )
            closing.callback(kernel.close)
            worker = asyncio.create_task(kernel.grave.run())
            closing.callback(worker.cancel)
            if is_asked:
                await probe(kernel, settings.run_dir)
        except Refused:
            raise  # another layout: going on by tmpfs would leave the node's volumes to nobody
        except (KernelSecretError, OSError) as error:
            reason = reason or said(error)
            passes = is_asked and may_pass(error)
    found = await asyncio.to_thread(with_idmapped, report(facts, reason), settings.run_dir)
    log.info(
        Event.PROBED,
        engine=found.engine.value,
        reason=reason or None,
        kernel=facts.kernel,
        idmapped=found.idmapped,
        detail=found.idmapped_reason or None,
    )
    if reason and settings.engine == EngineName.ITER.value:
        raise Refused(Code.FAILED_PRECONDITION, "KERNELSECRET_ENGINE", f"iter does not work here: {reason}")
    if reason and is_asked:
        telling.conditions.hold(Reason.NO_BPF, why=reason)
    return ProbedKernel(kernel, found, passes)


async def until_it_works(settings: Settings) -> None:
    """The engine failed for a reason that may pass: probe now and then until it has passed."""
    while True:
        await asyncio.sleep(PROBE_AGAIN_S)
        found = await asyncio.to_thread(probe_once, settings)
        if found.engine is EngineName.ITER:
            log.warning(Event.ENGINE_BACK, engine=found.engine.value)
            return
