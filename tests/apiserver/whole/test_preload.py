"""Mode `preload` from `kubectl apply` to programs that read: all by what the API server has stored of the pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kernelsecret.cli.simulation.pod import Container, python
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_DECISION,
    ANNOTATION_UNAFFECTED,
    ENV_PRELOAD,
    SHIM_FILE,
    SHIM_ROOT,
    VOLUME_NAME,
    VOLUME_SHIM,
)
from tests.agent.harness import until
from tests.apiserver.harness.ctl import explain
from tests.apiserver.harness.objects import container, interceptor
from tests.apiserver.harness.stored import StoredPod, ask, running
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.whole import WholeNode
from tests.unit.preload.programs import build_shim

FIRST, SECOND = "first-value-canary", "second-value-canary"
PREFIX, SINGLE, OWN = "/app/secrets", "/app/value", "/app/tools/own.so"
SPEC: dict[str, Any] = {
    "access": {"unenforced": "allow"},
    "delivery": {"modes": ["preload"], "preload": {"prefixes": [PREFIX]}},
}
READS = """
import json, os, sys
held = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
for line in sys.stdin:
    values = [open(path).read() for path in sys.argv[1:]]
    for descriptor in held:
        os.lseek(descriptor, 0, os.SEEK_SET)
    print(json.dumps([*values, *(os.read(descriptor, 100).decode() for descriptor in held)]), flush=True)
"""
"""Reads each path anew, and by a descriptor that it has held from the start, rewound."""
TRIES = """
import errno, sys
for line in sys.stdin:
    try:
        print(open(sys.argv[1]).read(), flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""
"""Reads the path, or says why it cannot."""
STATIC = 'while read -r line; do read -r value < "$0"; echo "$value"; done'
BUSYBOX = "/usr/bin/busybox"
"""As containers have it, of the host; its own shell starts nothing else."""


def reads(program: Container) -> set[str]:
    """The different values that the program meets, by each path and descriptor."""
    values: list[str] = json.loads(ask(program))
    return set(values)


def explained(node: WholeNode, name: str, *words: str) -> str:
    ran = explain(node.of, node.name, name, *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def assert_explained_alike(node: WholeNode, pod: StoredPod, mode: str) -> None:
    """Annotation, event and command say the same of the pod's mode."""
    sentence = pod.annotations[ANNOTATION_DECISION]
    assert sentence.startswith(f"mode {mode}: ")
    [event] = eventually(lambda: pod.told("ModeChosen"), "the event is there", explain=node.said)
    assert (event["note"], event["regarding"]["uid"]) == (sentence, pod.thing["metadata"]["uid"])
    said = json.loads(explained(node, pod.name, "-o", "json"))
    assert (said["outcome"], said["mode"], said["decision"]) == ("injected", mode, sentence)
    assert said["differences"] == []
    assert sentence in explained(node, pod.name)


async def test_a_waiver_that_is_withdrawn_ends_the_right_of_pods_that_run_by_it(node: WholeNode) -> None:
    node.secret("shop/db", {"password": FIRST.encode()})
    delivery = {"modes": ["preload", "ebpf"], "onUnavailable": "refuse"}
    node.of.kubectl.apply(interceptor("withdrawn", node.name, access=SPEC["access"], delivery=delivery))
    await node.joined()
    node.bound("web", "true")

    def waive(word: str) -> None:
        patch = json.dumps({"spec": {"access": {"unenforced": word}}})
        node.of.kubectl("patch", "si/withdrawn", "--type=merge", f"--patch={patch}")

    def unselected() -> str:
        """Why pods are no longer given it; empty where all are."""
        conditions = node.of.kubectl.get("si", "withdrawn")["status"]["conditions"]
        [found] = [one for one in conditions if one["type"] == "PodsUnselected"]
        return str(found["reason"]) if found["status"] == "True" else ""

    with running(node, "web") as pod:
        await pod.publish()
        program = pod.start("app", [python(), "-c", TRIES, "/var/run/secrets/withdrawn/password"])
        assert ask(program) == FIRST
        waive("refuse")
        await until(lambda: ask(program) == "EACCES", "its files are closed")
        assert "withdrawn: spec.access.unenforced: is not `allow` any more" in node.conditions()["right-ended"]
        assert eventually(unselected, "its status says so", explain=node.said) == "RefusesReads"
        # Who is created anew has the mode that holds the rule.
        node.bound("anew", "true")
        assert node.kubectl.get("pod", "anew")["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "ebpf"
        waive("allow")
        await until(lambda: ask(program) == FIRST, "they are open again")
        eventually(lambda: not unselected(), "its status says so", explain=node.said)
        await pod.unpublish()


async def test_programs_read_and_follow_by_every_path_what_the_stored_pod_gives_them(
    node: WholeNode, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    build_shim(tmp_path).rename(tmp_path / "own.so")
    node.secret("shop/db", {"password": FIRST.encode()})
    node.of.kubectl.apply(interceptor("shimmed", node.name, **SPEC))
    await node.joined()
    empty = node.footprint()
    single = {"name": VOLUME_NAME, "mountPath": SINGLE, "subPath": "password", "readOnly": True}
    node.kubectl("create", "configmap", "tools", f"--from-literal=preload={OWN}")
    own = {"name": ENV_PRELOAD, "value": OWN}
    elsewhere = {"name": ENV_PRELOAD, "valueFrom": {"configMapKeyRef": {"name": "tools", "key": "preload"}}}
    containers = [container("app", volumeMounts=[single], env=[own]), container("beside", env=[elsewhere])]
    user = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "runAsNonRoot": True}
    node.bound("web", "true", containers=[*containers, container("tool")], securityContext=user)
    with running(node, "web") as pod:
        assert pod.annotations[ANNOTATION_CHOSEN_MODE] == "preload"
        assert set(pod.volumes) == {VOLUME_NAME, VOLUME_SHIM}
        await pod.publish()
        live = "/var/run/secrets/shimmed/password"
        paths = (live, f"{PREFIX}/password", SINGLE)
        image = {"/app/tools": tmp_path}
        program = pod.start("app", [python(), "-c", READS, *paths], image)
        beside = pod.start("beside", [python(), "-c", READS, *paths[:2]], image)
        assert reads(program) == reads(beside) == {FIRST}
        for one in (program, beside):
            maps = Path(f"/proc/{one.pid}/maps").read_text()
            assert f"{SHIM_ROOT.removeprefix('/var')}/{SHIM_FILE}" in maps
            assert OWN in maps, "what the author preloads is there, too"
        static = pod.start("tool", [BUSYBOX, "sh", "-c", STATIC, live])
        assert ask(static) == FIRST

        node.secret("shop/db", {"password": SECOND.encode()})
        await until(lambda: reads(program) == {SECOND}, "the new value is read by every path")
        await until(lambda: reads(beside) == {SECOND}, "and beside it")
        assert ask(static) == SECOND, "who opens anew needs no shim"

        words = f"{BUSYBOX}: static"
        await until(lambda: pod.annotations.get(ANNOTATION_UNAFFECTED) == words, "its owner is told of the program")
        eventually(lambda: pod.told("ProgramUnaffected"), "by an event, too", explain=node.said)
        [event] = pod.told("ProgramUnaffected")
        assert event["note"] == f"{BUSYBOX} is not reached by the shim (static): it reads the ordinary files"
        assert words in node.kubectl("describe", "pod", "web")
        assert_explained_alike(node, pod, "preload")

        told = len(node.audited("program-unaffected"))
        # An agent that starts again knows from the annotation what is told.
        assert node.stop() == 0
        await node.started()
        eventually(lambda: node.status()["unaffected"], "it is known again", explain=node.said)
        assert len(node.audited("program-unaffected")) == told
        await pod.unpublish()
    await node.settled(empty)
    node.assert_kept(FIRST.encode(), SECOND.encode())
