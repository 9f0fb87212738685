"""Telling applications of a rotation: the right processes get the signal, and nobody else does."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path

from agent.delivery.notify import Notifier
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.model import AccessRule, FilePlan, Notify, PodRef, SecretRef, SecretVersion, VolumePlan
from kernelsecret.cli.simulation.pod import Pod
from kernelsecret.interceptor import Mode
from tests.kernel.harness.family import PYTHON
from tests.kernel.harness.node import Node
from tests.kernel.harness.waiting import wait_until


def notifier(node: Node) -> Notifier:
    assert node.facts.cgroup is not None
    return Notifier(node.kernel.pods, node.facts.cgroup.root)


def test_main_is_the_first_program_of_each_container_and_nobody_else(any_node: Node) -> None:
    pod, other = any_node.pod(), any_node.pod()
    volume = any_node.publish(pod, {"db": {"password": b"one"}}, notify=Notify(signal.SIGUSR1))
    silent = any_node.publish(other, {"db": {"password": b"one"}})
    mains = [pod.container("app"), pod.container("side")]
    others = [mains[0].spawn(), pod.exec(mains[0]), other.container()]
    for task in (*mains, *others):
        task("count_signals", signal.SIGUSR1)
    told = notifier(any_node).rotated([volume.state, silent.state])
    assert told == {volume.state.plan.volume_id: 2}
    for task in mains:
        wait_until(lambda task=task: task("signals") == 1, "the signal has come")  # type: ignore[misc]
    assert [task("signals") for task in others] == [0, 0, 0]


def test_a_named_program_is_told_wherever_it_runs_in_the_pod(any_node: Node) -> None:
    pod, other = any_node.pod(), any_node.pod()
    volume = any_node.publish(pod, {"db": {"password": b"one"}}, notify=Notify(signal.SIGUSR1, PYTHON))
    app = pod.container()
    tasks = [app, app.spawn(), pod.exec(app)]
    stranger = other.container()
    for task in (*tasks, stranger):
        task("count_signals", signal.SIGUSR1)
    assert notifier(any_node).rotated([volume.state]) == {volume.state.plan.volume_id: len(tasks)}
    for task in tasks:
        wait_until(lambda task=task: task("signals") == 1, "the signal has come")  # type: ignore[misc]
    assert stranger("signals") == 0


def test_a_program_that_does_not_run_is_told_to_nobody(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"one"}}, notify=Notify(signal.SIGUSR1, "/usr/bin/cat"))
    pod.container()
    assert notifier(node).rotated([volume.state]) == {volume.state.plan.volume_id: 0}


def test_a_main_program_that_left_the_pod_or_is_gone_is_not_told(any_node: Node) -> None:
    """Its pid may be anybody's by now."""
    pod, other = any_node.pod(), any_node.pod()
    volume = any_node.publish(pod, {"db": {"password": b"one"}}, notify=Notify(signal.SIGUSR1))
    app = pod.container()
    app("count_signals", signal.SIGUSR1)
    any_node.move(app, other.cgroup_of("app"))
    assert notifier(any_node).rotated([volume.state]) == {volume.state.plan.volume_id: 0}
    assert app("signals") == 0
    app.kill()
    assert notifier(any_node).rotated([volume.state]) == {volume.state.plan.volume_id: 0}


def test_of_ordinary_files_main_is_the_first_process_of_each_container_that_has_them(tmp_path: Path) -> None:
    ref, target = SecretRef("file", "db"), tmp_path / "target"
    (tmp_path / "volumes").mkdir()
    target.mkdir()
    engine = TmpfsEngine(tmp_path / "volumes")
    with Pod(str(uuid.uuid4()), "shop", "web") as pod:
        plan = VolumePlan(
            volume_id="csi-1",
            target_path=target,
            pod=PodRef("shop", "web", pod.uid, "web"),
            interceptor="tests",
            files=(FilePlan("password", ref, "password", 0o440),),
            access=AccessRule(),
            allow_unenforced=True,
            uses_sub_path=False,
            notify=Notify(signal.SIGTERM),
            mode=Mode.PRELOAD,
        )
        state = engine.begin(plan, {ref: SecretVersion(ref, {"password": b"one"})})
        try:
            started = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done"
            waiting = ["sh", "-c", started]
            app = pod.container("app", waiting, {"db": target})
            sandbox = pod.container("sandbox", waiting)
            entered = app.enter(waiting)
            for process in (app.process, sandbox.process, entered):
                assert process.stdout.readline() == b"ready\n"
            told = Notifier(None, pod.cgroups.directories[0].parents[2]).rotated([state])
            assert told == {"csi-1": 1}
            assert entered.wait() == -signal.SIGKILL, "its container ended under it"
            assert app.process.wait() == 9
            assert sandbox.process.poll() is None
        finally:
            asyncio.run(engine.end(state))
