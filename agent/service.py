"""The agent as a process: its settings come in, signals end it, and what it served stays served."""

from __future__ import annotations

import asyncio
import os
import signal

from agent.agent import Agent
from agent.observe.conditions import Reason
from agent.settings import Settings
from kernelsecret.errors import KernelSecretError
from telemetry.hardening import Hardening, harden
from telemetry.logkeys import Event
from telemetry.logs import configure, get_logger, problem

RESTART_STATUS = 75
"""Exit status of an agent that asks to be started again (EX_TEMPFAIL)."""

log = get_logger("agent")


def run(settings: Settings) -> int:
    """Run the agent until SIGTERM or SIGINT; the process's exit status."""
    hardening = harden()
    configure(settings.log_level)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes past the log
    try:
        return asyncio.run(_run(settings, hardening))
    except KernelSecretError as error:
        log.error(Event.AGENT_FAILED, **problem(error))
        raise


async def _run(settings: Settings, hardening: Hardening) -> int:
    agent = Agent(settings, hardening)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, agent.telling.audit.reopen)
    log.info(Event.AGENT_STARTING, node=settings.node)
    for measure in hardening.missing:
        agent.telling.conditions.hold(Reason.HARDENING_INCOMPLETE, measure.name, measure.detail)
    try:
        await agent.start()
        await _first(stop, agent.wants_restart)
        log.info(Event.AGENT_STOPPING)
    finally:
        await agent.stop()
    log.info(Event.AGENT_STOPPED)
    return 0 if stop.is_set() else RESTART_STATUS


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for one in waits:
        one.cancel()
