"""The parts of one agent, put together, and the order in which they come up."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from agent.api_side import ApiSide, connection, uses_api
from agent.credentials import Credentials, PodToken
from agent.delivery import mounts
from agent.delivery.cgroups import find_pod
from agent.delivery.notify import Notifier
from agent.delivery.shims import Shims
from agent.delivery.state import StateFiles
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.delivery.volumes import Volumes
from agent.doors import VERSION, open_doors
from agent.kernel import calls
from agent.kernel.node import read_facts
from agent.kernel.ring import EventRing
from agent.kernel.safe import KernelSafe
from agent.kernel_events import KernelEvents
from agent.kube.cluster import Cluster
from agent.kube.files import FileCluster
from agent.kube.token_claims import claimed
from agent.model import EngineName, PodRef
from agent.node_kernel import LOCK, NodeKernel, open_safe, prepare_folder
from agent.parts import Parts, assemble
from agent.pod_events import PodEvents
from agent.pod_tokens import Verify
from agent.preload.looking import Looking
from agent.preload.scanning import look_at_pod
from agent.probed_kernel import ProbedKernel, open_probed, until_it_works
from agent.reachable import ToldCluster
from agent.safe import MemorySafe
from agent.secrets.following import follow
from agent.secrets.pace import Pace
from agent.secrets.prefetch import Prefetch
from agent.settings import Settings
from agent.sockets import lock
from agent.source_set import open_sources
from agent.sources.file import FileSource
from agent.status import served_status, shims_status
from agent.taking_over import take_over
from agent.teller import Teller
from agent.telling import Telling
from telemetry.hardening import Hardening
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

SYNC_S = 3.0
"""How long a starting agent waits for its first view of the cluster; without it, it goes on with what it knows."""

log = get_logger("agent")


class Agent:
    """One agent. `start` brings its parts up in order; `stop` ends the process's side, not what is served."""

    def __init__(self, settings: Settings, hardening: Hardening) -> None:
        self.settings = settings
        self.hardening = hardening
        self.telling = Telling(settings)
        self.started = time.time()
        self.adopted = 0
        self.probed: ProbedKernel | None = None
        self.parts: Parts | None = None
        self.looking: Looking | None = None
        self.events: KernelEvents | None = None
        self.api: ApiSide | None = None
        self.safe: KernelSafe | MemorySafe | None = None
        self.wants_restart = asyncio.Event()
        """Another agent would serve better: what was wrong with the node has passed, or a part of this one failed."""
        self._closing = AsyncExitStack()

    async def start(self) -> None:
        """Open, probe, adopt, serve. Raises KernelSecretError where it cannot."""
        settings, telling = self.settings, self.telling
        calls.count_with(telling.metrics.syscall)
        mounts.count_with(telling.metrics.syscall)
        folder = prepare_folder(settings.run_dir)
        self._closing.callback(os.close, lock(settings.run_dir / LOCK))
        tmpfs = TmpfsEngine(folder, asyncio.get_running_loop().call_later)
        states = StateFiles(settings.state_dir)
        facts = read_facts(settings.cgroup_root)
        self.probed = probed = await open_probed(settings, facts, telling, self._closing)
        kernel = probed.kernel
        engines = {EngineName.TMPFS: tmpfs} | ({EngineName.ITER: kernel.engine} if kernel else {})
        volumes = Volumes(engines, probed.report.engine, states, reason=probed.report.reason)
        shims = Shims(settings.run_dir, settings.state_dir)
        cluster = ToldCluster(self._seen_cluster(), telling.conditions)
        credentials = Credentials()
        self.safe = kernel.safe if kernel else open_safe(settings.run_dir)
        server = connection(settings) if self.api else None
        pace = Pace(volumes, settings.poll_floor)
        teller = self._teller(volumes)
        sources = open_sources(settings, server, credentials, self.safe, pace, telling, teller, self._closing)
        cgroup_root = facts.cgroup.root if facts.cgroup else None
        notifier = Notifier(kernel.pods if kernel else None, cgroup_root)
        verify = self._verifier()
        parts = assemble(
            settings.node, volumes, shims, cluster, sources, credentials, verify, notifier, teller, telling
        )
        self.parts = parts
        self.looking = self._looking(volumes, cgroup_root, cluster)
        self._closing.push_async_callback(parts.rotator.close)
        self._background(cluster.run(parts.rights.look))
        await open_doors(settings, parts.publisher, telling, self.status, self._closing)
        if self.api:
            await self._serve_webhook(self.api, probed, parts)
        if kernel:
            await self._listen_to_kernel(kernel, volumes)
        self.adopted = await take_over(volumes, states, tmpfs, kernel, parts.ledger, telling)
        shims.adopt()
        await self._go_on(parts, lambda uid: cgroup_root is not None and find_pod(cgroup_root, uid) is not None)
        if probed.may_pass:
            self._background(self._probe_again())
        parts.publisher.is_ready = True
        log.info(Event.AGENT_READY, engine=volumes.engine.name.value, volumes=len(volumes))

    async def _go_on(self, parts: Parts, is_on_node: Callable[[str], bool]) -> None:
        """With what was taken over: judged before anything rotates, as what has no right gets no new version."""
        parts.rights.recall()
        await parts.rights.judge()
        followed = parts.volumes.followed()
        await follow(parts.rotator, {ref for ref in followed if ref.source == FileSource.name})
        await parts.publisher.end_orphans(is_on_node)
        # Others may be away for long; kubelet is not to wait for that.
        self._background(follow(parts.rotator, parts.volumes.followed() & {r for r in followed if r.source != "file"}))
        self.telling.metrics.refresh = self._refresh
        self._background(parts.rights.run())
        self._background(parts.old_leases.run())
        if self.looking:
            self._background(self.looking.run())

    async def stop(self) -> None:
        """Idempotent."""
        await self._closing.aclose()

    def status(self) -> Mapping[str, Any]:
        """The status document, without a secret."""
        kernel = self.probed.kernel if self.probed else None
        return {
            "version": VERSION,
            "node": self.settings.node,
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self.started, 1),
            "probe": self.probed.report.as_status() if self.probed else None,
            "adopted": self.adopted,
            "hardening": self.hardening.as_status(),
            "cluster": "api" if self.api else "files",
            "sources": sorted(self.parts.sources) if self.parts else [],
            "keeps_leases": self.safe is not None and self.safe.outlives_agent,
            "conditions": self.telling.conditions.as_status(),
            **served_status(self.parts.volumes if self.parts else None, kernel.maps if kernel else None),
            "shims": shims_status(self.parts.shims) if self.parts else [],
            "secrets": self.parts.secrets.as_status() if self.parts else [],
            "unaffected": self.looking.as_status() if self.looking else [],
        }

    # Work beside

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until the agent stops; what ends by an error ends the agent, to be started again."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._failed)
        self._closing.push_async_callback(_ended, task)

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(Event.AGENT_FAILED, **problem(error))
            self.wants_restart.set()

    async def _probe_again(self) -> None:
        """The label waits for that, too."""
        await until_it_works(self.settings)
        self.wants_restart.set()

    # Steps of `start`

    def _seen_cluster(self) -> Cluster:
        if not uses_api(self.settings):
            return FileCluster(self.settings.cluster_dir)
        telling = self.telling
        self.api = ApiSide(self.settings, telling.metrics, telling.conditions, telling.recorder)
        self._closing.push_async_callback(self.api.stop)
        return self.api.cluster

    def _teller(self, volumes: Volumes) -> Teller:
        if self.api is None:
            return Teller()
        events = PodEvents(self.api.events, volumes)
        self.telling.recorder.also.append(events.recorded)
        return events

    def _looking(self, volumes: Volumes, cgroup_root: Path | None, cluster: Cluster) -> Looking:
        telling = self.telling
        annotation = self.api.annotation(cluster) if self.api else None
        scan = partial(look_at_pod, cgroup_root)
        looking = Looking(volumes, scan, telling.metrics, telling.recorder.record, annotation)
        telling.recorder.also.append(looking.recorded)
        return looking

    def _verifier(self) -> Verify:
        node = self.settings.node
        if (api := self.api) is not None:
            return lambda pod, tokens: api.tokens.verified(pod, node, tokens)

        async def by_claims(pod: PodRef, tokens: Mapping[str, str]) -> Mapping[str, PodToken]:
            return claimed(pod, node, tokens, now_s=time.time())

        return by_claims

    async def _serve_webhook(self, api: ApiSide, probed: ProbedKernel, parts: Parts) -> None:
        """The webhook need not be there: what it has not brought is asked for when it is needed."""
        prefetch = Prefetch(api.cluster, parts.rotator, parts.sources)
        self._closing.push_async_callback(prefetch.close)
        api.on_registered = prefetch.registered
        api.served = parts.served
        api.nudge = lambda source, path: parts.sources[source].nudge(path) if source in parts.sources else 0
        await api.start()
        api.publish_engine(probed.report.engine, probed.report.idmapped, may_pass=probed.may_pass)
        await api.cluster.wait_synced(SYNC_S)

    async def _listen_to_kernel(self, kernel: NodeKernel, volumes: Volumes) -> None:
        recorder, metrics = self.telling.recorder, self.telling.metrics
        self.events = KernelEvents(volumes, kernel.binaries, kernel.maps, recorder, metrics)
        ring = EventRing(kernel.maps.events_fd, self.events.handle)
        loop = asyncio.get_running_loop()
        ring.attach(loop)
        self._closing.callback(ring.close)
        self._closing.callback(loop.remove_reader, ring.fd)

    def _refresh(self) -> None:
        if self.parts:
            self.parts.gauges.refresh()
        if self.events:
            self.events.sum_up()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
