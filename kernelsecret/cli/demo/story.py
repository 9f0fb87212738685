"""The demonstration itself, step by step. Everything that is begun is undone, whatever happens."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

from agent import upkeep
from agent.csi.client import CallError, KubeletClient, publish_message
from kernelsecret.cli.admin_client import AdminClient
from kernelsecret.cli.demo import thefts
from kernelsecret.cli.demo.agent_process import AgentProcess
from kernelsecret.cli.demo.figures import LEFT, ROTATIONS, THEFTS, Figures
from kernelsecret.cli.demo.programs import FOLDER, PYTHON_READER, SHELL_READER
from kernelsecret.cli.demo.readers import Reader, Silent
from kernelsecret.cli.demo.screen import Screen
from kernelsecret.cli.demo.stage import VOLUME, Stage, Tenant
from kernelsecret.cli.failures import CommandError
from kernelsecret.cli.simulation.cgroups import read_hierarchies
from kernelsecret.cli.simulation.pod import CannotStart, Pod, python
from kernelsecret.errors import KernelSecretError

BETWEEN_ROTATIONS = 300
"""Reads of the Python program between two rotations: about a tenth of a second."""
WITHOUT_AGENT = (1000, 30)
"""Reads that the programs make while there is no agent: the Python one's, the shell's."""


class Story:
    """One performance. `figures` say how far it came."""

    def __init__(self, screen: Screen, engine: str, *, has_cgroups: bool) -> None:
        self.figures = Figures()
        self._screen = screen
        self._engine = engine
        self._hierarchies = read_hierarchies() if has_cgroups else []
        self._readers: list[Reader] = []

    def play(self) -> None:
        """Play it. What goes wrong is in the figures; KeyboardInterrupt and the like pass, after the clean-up."""
        try:
            with ExitStack() as after, ExitStack() as undo:
                try:
                    self._play(undo)
                finally:
                    # A second Ctrl-C must not leave half of it behind.
                    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                        after.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
        except (Silent, CannotStart, CommandError, KernelSecretError) as error:
            self.figures.problems.append(str(error))
        except CallError as error:
            self.figures.problems.append(f"the agent refused over CSI: {error}")
        except (OSError, TimeoutError) as error:
            self.figures.problems.append(f"{type(error).__name__}: {error}")

    def _play(self, undo: ExitStack) -> None:
        stage = Stage()
        undo.callback(self._strike, stage)
        agent = AgentProcess(stage.flags(self._engine))
        undo.callback(agent.stop)
        client = AdminClient(stage.settings(self._engine).admin_socket)
        self._begin(agent, client, stage)
        runner = undo.enter_context(asyncio.Runner())
        pod = undo.enter_context(
            Pod(
                stage.payments.pod.uid,
                stage.payments.pod.namespace,
                stage.payments.pod.name,
                hierarchies=self._hierarchies,
            )
        )
        first = stage.write_secret()
        with self._screen.step("Start a pod with two programs"):
            self.figures.publish_ms = self._publish(runner, stage, stage.payments, undo)
            undo.callback(pod.kill)
            self._start_programs(pod, stage.payments, first)
        self._screen.published(self.figures.publish_ms)
        self._screen.programs(f"{stage.payments.pod.namespace}/{stage.payments.pod.name}", first)
        undo.callback(self._count)
        self._rotate(stage)
        if self.figures.engine == "iter":
            self._steal(runner, client, stage)
        else:
            self._screen.not_shown(THEFTS.values())
        self._kill_agent(agent, client, stage)

    def _begin(self, agent: AgentProcess, client: AdminClient, stage: Stage) -> None:
        with self._screen.step("Start the node agent"):
            seconds = agent.start()
            probe = client.status()["probe"]
            self.figures.engine = probe["engine"]
            self.figures.reason = probe["reason"] if self._engine == "auto" else ""
            stage.write_cluster(unenforced=probe["engine"] != "iter")
        self._screen.engine(probe["engine"], self.figures.reason, seconds)

    def _publish(self, runner: asyncio.Runner, stage: Stage, tenant: Tenant, undo: ExitStack) -> float:
        socket = stage.settings(self._engine).csi_socket
        milliseconds = runner.run(_publish(KubeletClient(socket), tenant))
        undo.callback(lambda: runner.run(_unpublish(KubeletClient(socket), tenant)))
        return milliseconds

    def _start_programs(self, pod: Pod, tenant: Tenant, first: str) -> None:
        volumes = {VOLUME: tenant.target}
        one = pod.container("python", [python(), "-I", "-S", "-c", PYTHON_READER, FOLDER], volumes)
        two = pod.container("shell", ["/bin/sh", "-c", SHELL_READER, "sh", FOLDER], volumes)
        self._readers = [Reader("Python", one), Reader("shell", two)]
        for reader in self._readers:
            reader.wait_for(first)

    def _rotate(self, stage: Stage) -> None:
        self._screen.heading(f"Rotate the secret {ROTATIONS} times")
        for number in range(1, ROTATIONS + 1):
            self._readers[0].wait_for_reads(BETWEEN_ROTATIONS)
            began = time.monotonic_ns()
            user = stage.write_secret()
            took = (self._readers[0].wait_for(user) - began) / 1e6
            self._readers[1].wait_for(user)
            self.figures.latencies_ms.append(took)
            self._screen.rotation(number, user, took)

    def _steal(self, runner: asyncio.Runner, client: AdminClient, stage: Stage) -> None:
        self._screen.heading("Try to steal it")
        app = self._readers[0].container
        alarm = thefts.Alarm(client)
        attempts: dict[str, Callable[[], bool]] = {
            "other_pod": lambda: thefts.other_pod(stage.payments, alarm),
            "entered_shell": lambda: thefts.entered_shell(app, alarm),
            "orphan": lambda: thefts.orphan(app, alarm),
            "spawned_shell": lambda: self._spawned_shell(runner, stage, alarm),
        }
        for name, attempt in attempts.items():
            self.figures.refused[name] = attempt()
            self._screen.theft(THEFTS[name], refused=self.figures.refused[name])

    def _spawned_shell(self, runner: asyncio.Runner, stage: Stage, alarm: thefts.Alarm) -> bool:
        with ExitStack() as undo:
            return thefts.spawned_shell(stage.orders, alarm, lambda: self._publish(runner, stage, stage.orders, undo))

    def _kill_agent(self, agent: AgentProcess, client: AdminClient, stage: Stage) -> None:
        self._screen.heading("Kill the agent (kill -9) under the running programs")
        published = len(client.status()["volumes"])
        before = sum(reader.counts.reads for reader in self._readers)
        agent.kill()
        for reader, reads in zip(self._readers, WITHOUT_AGENT, strict=True):
            reader.wait_for_reads(reads)
        self.figures.reads_without_agent = sum(reader.counts.reads for reader in self._readers) - before
        user = stage.write_secret()
        self.figures.back_ms = agent.start() * 1000
        for reader in self._readers:
            reader.wait_for(user)
        status = client.status()
        if status["adopted"] != published:
            raise CommandError(f"the agent took over {status['adopted']} volumes of {published}")
        self.figures.agent_killed = True
        self._screen.killed(self.figures.reads_without_agent, self.figures.back_ms, user)

    def _count(self) -> None:
        for reader in self._readers:
            self.figures.reads += reader.counts.reads
            self.figures.failed_reads += reader.counts.failed
            self.figures.restarts += not reader.lives
        if self.figures.engine == "iter":  # elsewhere two files are one version only for who looks at both at once
            self.figures.mixed_reads = sum(reader.counts.mixed for reader in self._readers)

    def _strike(self, stage: Stage) -> None:
        upkeep.clean(stage.settings(self._engine))
        if left := stage.strike():
            self.figures.problems.append(LEFT + ", ".join(left))


async def _publish(client: KubeletClient, tenant: Tenant) -> float:
    async with client:
        message = publish_message(tenant.volume_id, tenant.target, tenant.pod, tenant.interceptor)
        began = time.monotonic()
        await client.publish(message)
        return (time.monotonic() - began) * 1000


async def _unpublish(client: KubeletClient, tenant: Tenant) -> None:
    async with client:
        await client.unpublish(tenant.volume_id, tenant.target)
