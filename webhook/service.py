"""The webhook as a process: its settings come in, signals end it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import uvloop

from kernelsecret.errors import KernelSecretError
from telemetry.hardening import Hardening, harden
from telemetry.logkeys import Event
from telemetry.logs import configure, get_logger, problem
from webhook import memory
from webhook.replica import Replica
from webhook.settings import Settings

log = get_logger("webhook")


def run(settings: Settings) -> int:
    """Run the webhook until SIGTERM or SIGINT; the process's exit status."""
    hardening = harden()
    memory.prepare()
    configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(settings, hardening))
        except KernelSecretError as error:
            log.error(Event.WEBHOOK_FAILED, **problem(error))
            raise
        except ExceptionGroup as group:
            for failure in _leaves(group):
                log.error(Event.WEBHOOK_FAILED, **problem(failure))
            return 1


async def _run(settings: Settings, hardening: Hardening) -> int:
    replica = Replica(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replica.stop.set)
    loop.add_signal_handler(signal.SIGHUP, replica.trail.reopen)
    log.info(Event.WEBHOOK_STARTING, identity=settings.identity)
    for measure in hardening.missing:
        log.warning(Event.HARDENING_INCOMPLETE, measure=measure.name, detail=measure.detail)
    await replica.run()
    log.info(Event.WEBHOOK_STOPPED)
    return 0


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for failure in group.exceptions:
        if isinstance(failure, ExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure
