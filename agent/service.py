"""The agent as a process: takes the node over, serves until told to stop, and leaves the secrets served."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from agent.api_side import ApiSide, uses_api
from agent.csi.driver import NodeService
from agent.csi.identity import IdentityService, RegistrationService
from agent.csi.paths import KubeletTargets
from agent.csi.server import CsiServer, CsiSettings
from agent.delivery import adoption, mounts
from agent.delivery.cgroups import find_pod
from agent.delivery.notify import Notifier
from agent.delivery.quota import Ledger
from agent.delivery.state import StateFiles, VolumeState
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.delivery.volumes import Volumes
from agent.kernel import calls
from agent.kernel.node import NodeFacts, read_facts
from agent.kernel.programs import Tuning
from agent.kernel.ring import EventRing
from agent.kernel_events import KernelEvents
from agent.kube.cluster import Cluster
from agent.kube.files import FileCluster
from agent.model import EngineName, Source
from agent.node_kernel import LOCK, NodeKernel, has_pins, open_kernel, prepare_folder
from agent.observe.admin import AdminServer
from agent.observe.conditions import Conditions, Reason
from agent.observe.events import EventHub
from agent.observe.health import HealthServer
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import Adopted
from agent.prefetch import Prefetch
from agent.probe import ProbeReport, may_pass, probe, report
from agent.publisher import NodePublisher
from agent.reachable import ToldCluster
from agent.rights import Rights
from agent.rotation import Rotator
from agent.settings import Settings
from agent.sockets import lock
from agent.sources.file import FileSource
from agent.status import served_status
from agent.upkeep import probe_once
from kernelsecret.errors import Code, KernelSecretError, Refused, said
from telemetry.audit import AuditLog
from telemetry.hardening import Hardening, harden
from telemetry.logkeys import Event
from telemetry.logs import configure, get_logger, problem

STOP_GRACE_S = 5.0
PROBE_AGAIN_S = 60.0
RESTART_STATUS = 75
"""Exit status of an agent that asks to be started again (EX_TEMPFAIL)."""
SYNC_S = 3.0
"""How long a starting agent waits for its first view of the cluster; without it, it goes on with what it knows."""
VERSION = "0.1.0"

log = get_logger("agent")


class Agent:
    """The parts of one agent. `start` brings them up in order; `stop` ends the process's side, not what is served."""

    def __init__(self, settings: Settings, hardening: Hardening) -> None:
        self.settings = settings
        self.hardening = hardening
        self.metrics = Metrics()
        configure(settings.log_level, on_dropped=self.metrics.log_fields_dropped)
        self.conditions = Conditions(self.metrics)
        self.hub = EventHub(
            kept=settings.events_kept, on_dropped=lambda n: self.metrics.dropped_events(n, "subscriber")
        )
        if settings.audit_log:
            settings.audit_log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.audit = AuditLog(settings.audit_log, on_failure=self._audit_failed, on_recovery=self._audit_recovered)
        self.recorder = Recorder(self.audit, self.hub)
        self.ledger = Ledger()
        self.started = time.time()
        self.adopted: adoption.Adopted | None = None
        self.report: ProbeReport | None = None
        self.volumes: Volumes | None = None
        self.kernel: NodeKernel | None = None
        self.events: KernelEvents | None = None
        self.api: ApiSide | None = None
        self._probe_may_pass = False
        self.wants_restart = asyncio.Event()
        """Another agent would serve better: what was wrong with the node has passed, or a part of this one failed."""
        self._closing = AsyncExitStack()

    async def start(self) -> None:
        """Open, probe, adopt, serve. Raises KernelSecretError where it cannot."""
        settings = self.settings
        calls.count_with(self.metrics.syscall)
        mounts.count_with(self.metrics.syscall)
        folder = prepare_folder(settings.run_dir)
        self._closing.callback(os.close, lock(settings.run_dir / LOCK))
        tmpfs = TmpfsEngine(folder)
        states = StateFiles(settings.state_dir)
        facts = read_facts(settings.cgroup_root)
        kernel = await self._open_kernel(facts)
        assert self.report is not None
        engines = {EngineName.TMPFS: tmpfs} | ({EngineName.ITER: kernel.engine} if kernel else {})
        volumes = Volumes(engines, self.report.engine, states)
        self.volumes, self.kernel = volumes, kernel
        sources: Mapping[str, Source] = {"file": FileSource(settings.file_source_dir)}
        cgroup_root = facts.cgroup.root if facts.cgroup else None
        notifier = Notifier(kernel.pods if kernel else None, cgroup_root)
        rotator = Rotator(volumes, sources, notifier, self.ledger, self.metrics, self.conditions, self.recorder)
        cluster = ToldCluster(self._seen_cluster(), self.conditions)
        publisher = NodePublisher(
            settings.node,
            cluster,
            volumes,
            rotator,
            self.ledger,
            self.metrics,
            self.conditions,
            self.recorder,
            on_published=lambda volume_id: rights.look(volume_id),
        )
        rights = Rights(
            cluster,
            volumes,
            publisher.current,
            sources,
            self.conditions,
            self.recorder,
            on_returned=rotator.account,
        )
        for source in sources.values():
            self._closing.push_async_callback(source.close)
        self._closing.callback(rotator.close)
        self._background(cluster.run(rights.look))
        await self._serve(publisher, rotator)
        if self.api:
            await self._serve_webhook(self.api, Prefetch(cluster, rotator, sources))
        if kernel:
            await self._listen_to_kernel(kernel, volumes)
        await self._adopt(volumes, states, tmpfs, kernel, rotator, rights)
        await publisher.end_orphans(lambda uid: cgroup_root is not None and find_pod(cgroup_root, uid) is not None)
        self.metrics.refresh = lambda: self._refresh(publisher)
        self._background(rights.run())
        if self._probe_may_pass:
            self._background(self._probe_again())
        publisher.is_ready = True
        log.info(Event.AGENT_READY, engine=volumes.engine.name.value, volumes=len(volumes))

    async def stop(self) -> None:
        """Idempotent."""
        await self._closing.aclose()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until the agent stops; what ends by an error ends the agent, to be started again."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._failed)
        self._closing.push_async_callback(_ended, task)

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(Event.AGENT_FAILED, **problem(error))
            self.wants_restart.set()

    # Steps of `start`

    async def _open_kernel(self, facts: NodeFacts) -> NodeKernel | None:
        """The kernel side wherever there is one: new volumes need the probe's word, live ones are adopted without."""
        settings = self.settings
        is_asked = settings.engine != EngineName.TMPFS.value
        reason = "" if is_asked else "KERNELSECRET_ENGINE asks for tmpfs"
        kernel = None
        if is_asked or has_pins(settings.run_dir):
            try:
                tuning = Tuning(events_per_second=settings.events_per_second)
                kernel = open_kernel(settings.run_dir, facts, self._freeing_failed, tuning, worked=self._freeing_worked)
                self._closing.callback(kernel.close)
                worker = asyncio.create_task(kernel.grave.run())
                self._closing.callback(worker.cancel)
                if is_asked:
                    await probe(kernel, settings.run_dir)
            except Refused:
                raise  # another layout: going on by tmpfs would leave the node's volumes to nobody
            except (KernelSecretError, OSError) as error:
                reason = reason or said(error)
                self._probe_may_pass = is_asked and may_pass(error)
        self.report = report(facts, reason)
        log.info(Event.PROBED, engine=self.report.engine.value, reason=reason or None, kernel=facts.kernel)
        if reason and settings.engine == EngineName.ITER.value:
            raise Refused(Code.FAILED_PRECONDITION, "KERNELSECRET_ENGINE", f"iter does not work here: {reason}")
        if reason and is_asked:
            self.conditions.hold(Reason.NO_BPF, why=reason)
        return kernel

    def _audit_failed(self) -> None:
        self.metrics.audit_failure()
        self.conditions.hold(Reason.AUDIT_FAILING, why="the audit log cannot be written; the log says why")

    def _audit_recovered(self) -> None:
        self.conditions.clear(Reason.AUDIT_FAILING)

    def _refresh(self, publisher: NodePublisher) -> None:
        publisher.count()
        if self.events:
            self.events.sum_up()

    def _freeing_failed(self, error: BaseException) -> None:
        self.conditions.hold(Reason.KERNEL_LIMIT, "freeing", said(error))

    async def _probe_again(self) -> None:
        """The engine failed for a reason that may pass; the label waits for that, too."""
        while True:
            await asyncio.sleep(PROBE_AGAIN_S)
            found = await asyncio.to_thread(probe_once, self.settings)
            if found.engine is EngineName.ITER:
                log.warning(Event.ENGINE_BACK, engine=found.engine.value)
                self.wants_restart.set()
                return

    def _freeing_worked(self) -> None:
        self.conditions.clear(Reason.KERNEL_LIMIT, "freeing")

    def _seen_cluster(self) -> Cluster:
        if not uses_api(self.settings):
            return FileCluster(self.settings.cluster_dir)
        self.api = ApiSide(self.settings, self.metrics, self.conditions, self.recorder)
        self._closing.push_async_callback(self.api.stop)
        return self.api.cluster

    async def _serve_webhook(self, api: ApiSide, prefetch: Prefetch) -> None:
        """The webhook need not be there: what it has not brought is asked for when it is needed."""
        assert self.report is not None
        self._closing.push_async_callback(prefetch.close)
        api.on_registered = prefetch.registered
        await api.start()
        api.publish_engine(self.report.engine, may_pass=self._probe_may_pass)
        await api.cluster.wait_synced(SYNC_S)

    async def _listen_to_kernel(self, kernel: NodeKernel, volumes: Volumes) -> None:
        self.events = KernelEvents(volumes, kernel.binaries, kernel.maps, self.recorder, self.metrics)
        ring = EventRing(kernel.maps.events_fd, self.events.handle)
        loop = asyncio.get_running_loop()
        ring.attach(loop)
        self._closing.callback(ring.close)
        self._closing.callback(loop.remove_reader, ring.fd)

    async def _adopt(
        self,
        volumes: Volumes,
        states: StateFiles,
        tmpfs: TmpfsEngine,
        kernel: NodeKernel | None,
        rotator: Rotator,
        rights: Rights,
    ) -> None:
        self.adopted = await adoption.adopt(volumes, states, tmpfs, kernel.side() if kernel else None)
        self.metrics.adopted_volumes(self.adopted.kept)
        for volume_id in self.adopted.lost:
            why = "what it showed was gone when this agent started; kubelet publishes it again"
            self.conditions.hold(Reason.ADOPTION_INCOMPLETE, volume_id, why)
        for state in volumes.all():
            self._account(state, volumes)
        rights.recall()
        await rights.judge()  # before anything rotates: what has no right gets no new version
        for ref in sorted(volumes.refs()):
            try:
                await rotator.fetch(ref)
            except Refused as refusal:
                rotator.failed(ref, str(refusal))

    def _account(self, state: VolumeState, volumes: Volumes) -> None:
        plan = state.plan
        self.ledger.adopt(
            plan.pod.namespace,
            plan.pod.uid,
            plan.volume_id,
            sum(volumes.sizes(state)),
            len(plan.files),
            plan.namespace_quota,
            plan.pod_quota,
        )
        self.recorder.record(
            Adopted(
                time_ns=time.time_ns(),
                volume_id=plan.volume_id,
                namespace=plan.pod.namespace,
                pod=plan.pod.name,
                pod_uid=plan.pod.uid,
                engine=state.engine.value,
                files=len(plan.files),
            )
        )

    async def _serve(self, publisher: NodePublisher, rotator: Rotator) -> None:
        settings, csi_log = self.settings, get_logger("csi")
        node = NodeService(
            publisher,
            KubeletTargets(settings.kubelet_dir),
            csi_log,
            node_id=settings.node,
            kubelet_root=settings.kubelet_dir,
            observe=self._observe_call,
        )
        server = CsiServer(
            node,
            IdentityService(publisher, version=VERSION),
            RegistrationService(settings.csi_socket, csi_log),
            csi_log,
            CsiSettings(settings.csi_socket, settings.registration_socket),
        )
        admin = AdminServer(settings.admin_socket, self.status, self.hub)
        health = HealthServer(
            settings.http_address.host, settings.http_address.port, self.metrics, self.conditions, publisher.ready
        )
        for part in (health, admin):
            await part.start()
            self._closing.push_async_callback(part.stop)
        await server.start()
        self._closing.push_async_callback(server.stop, STOP_GRACE_S)

    def _observe_call(self, call: str, code: str, seconds: float) -> None:
        if call == "publish":
            self.metrics.publish("ok" if code == "OK" else code, seconds)

    def status(self) -> Mapping[str, Any]:
        """The status document, without a secret."""
        return {
            "version": VERSION,
            "node": self.settings.node,
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self.started, 1),
            "probe": self.report.as_status() if self.report else None,
            "adopted": self.adopted.kept if self.adopted else 0,
            "hardening": self.hardening.as_status(),
            "cluster": "api" if self.api else "files",
            "conditions": self.conditions.as_status(),
            **served_status(self.volumes, self.kernel.maps if self.kernel else None),
        }


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


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
    loop.add_signal_handler(signal.SIGHUP, agent.audit.reopen)
    log.info(Event.AGENT_STARTING, node=settings.node)
    for measure in hardening.missing:
        agent.conditions.hold(Reason.HARDENING_INCOMPLETE, measure.name, measure.detail)
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
