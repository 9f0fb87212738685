"""What cannot be granted is refused with the field named; then nothing is mounted, nothing is kept, nothing is told."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.csi.client import CallError
from tests.agent.harness import Node
from tests.agent.tree import Pod, files_of

CANARY = b"canary-5d41402abc4b2a76b9719d911017c592"
MIB = 1 << 20


@dataclass(slots=True)
class Attempt:
    """A publish that must be refused, after other volumes that may be there."""

    pod: Pod
    changes: dict[str, Any] = field(default_factory=dict)
    before: list[Pod] = field(default_factory=list)


Setting = Callable[[Node, str], Attempt]
CASES: list[Any] = []


def case(code: str, named: str) -> Callable[[Setting], Setting]:
    """A case by its function's name: the code and what the error must begin with, or name after it."""

    def note(setting: Setting) -> Setting:
        CASES.append(pytest.param(setting, code, named, id=setting.__name__))
        return setting

    return note


def simple(node: Node, name: str, secret: str, *keys: str, **spec: Any) -> Attempt:
    """A pod with an interceptor of its own that shows these keys."""
    node.interceptor(name, [files_of(secret, *keys)], **spec)
    return Attempt(node.pod(name, name))


@case("NOT_FOUND", "file:payments/none: ")
def unknown_secret(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/none", "key")


@case("NOT_FOUND", "file:payments/empty: ")
def empty_secret(node: Node, name: str) -> Attempt:
    (node.secrets / "payments/empty").mkdir(exist_ok=True)
    return simple(node, name, "payments/empty", "key")


@case("NOT_FOUND", "file:payments/db: has no key 'absent'")
def missing_key(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/db", "username", "absent")


@case("FAILED_PRECONDITION", "spec.secrets[0].files[0].path: ")
def file_name_with_a_slash(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/db", "user/name")


@case("FAILED_PRECONDITION", "spec.secrets[0].files[0].path: ")
def file_name_with_dots(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/db", "..")


@case("FAILED_PRECONDITION", "spec.secrets[0].files[0].key: ")
def key_that_leaves_its_secret(node: Node, name: str) -> Attempt:
    wanted = files_of("payments/db", "username") | {"files": [{"path": "name", "key": "../db/username"}]}
    node.interceptor(name, [wanted])
    return Attempt(node.pod(name, name))


@case("FAILED_PRECONDITION", "spec.secrets[0].source.file.path: ")
def secret_that_leaves_the_source(node: Node, name: str) -> Attempt:
    return simple(node, name, "../cluster", "username")


@case("FAILED_PRECONDITION", "spec.secrets[0].source.vault: ")
def source_that_the_agent_lacks(node: Node, name: str) -> Attempt:
    node.interceptor(name, [files_of("x", "username") | {"source": {"vault": {"path": "x", "role": "web"}}}])
    return Attempt(node.pod(name, name))


@case("FAILED_PRECONDITION", "file:payments/huge[")
def value_over_a_mebibyte(node: Node, name: str) -> Attempt:
    node.secret("payments/huge", {"key": CANARY * (MIB // len(CANARY) + 1)})
    return simple(node, name, "payments/huge", "key")


@case("RESOURCE_EXHAUSTED", "spec.limits.maxFileBytes: ")
def value_over_the_interceptors_bound(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/db", "password", limits={"maxFileBytes": 4})


@case("RESOURCE_EXHAUSTED", "spec.limits.pod.bytes: ")
def bytes_of_the_pod(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/db", "username", "password", limits={"pod": {"bytes": len(CANARY)}})


@case("RESOURCE_EXHAUSTED", "spec.limits.pod.files: ")
def files_of_the_pod(node: Node, name: str) -> Attempt:
    return simple(node, name, "payments/db", "username", "password", limits={"pod": {"files": 1}})


@case("RESOURCE_EXHAUSTED", "spec.limits.pod.volumes: ")
def volumes_of_the_pod(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username", limits={"pod": {"volumes": 1}})
    return Attempt(attempt.pod.second(), before=[attempt.pod])


@case("RESOURCE_EXHAUSTED", "spec.limits.namespace.bytes: ")
def bytes_of_the_namespace(node: Node, name: str) -> Attempt:
    return in_namespace(node, name, {"bytes": len(CANARY) + 4})


@case("RESOURCE_EXHAUSTED", "spec.limits.namespace.files: ")
def files_of_the_namespace(node: Node, name: str) -> Attempt:
    return in_namespace(node, name, {"files": 1})


@case("RESOURCE_EXHAUSTED", "spec.limits.namespace.volumes: ")
def volumes_of_the_namespace(node: Node, name: str) -> Attempt:
    return in_namespace(node, name, {"volumes": 1})


def in_namespace(node: Node, name: str, limits: dict[str, int]) -> Attempt:
    """The second pod of a namespace that has room for one."""
    node.namespace(name)
    node.interceptor(name, [files_of("payments/db", "password")], limits={"namespace": limits})
    first, second = (node.pod(f"{name}-{number}", name, namespace=name) for number in range(2))
    return Attempt(second, before=[first])


@case("PERMISSION_DENIED", "registration.")
def service_account_that_is_not_the_registered_one(node: Node, name: str) -> Attempt:
    node.interceptor(name, [files_of("payments/db", "username")])
    return Attempt(node.pod(name, name, serviceAccount="other"))


@case("NOT_FOUND", "registration ")
def pod_uid_that_nobody_registered(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username")
    (node.cluster / f"registrations/{attempt.pod.ref.uid}.yaml").unlink()
    return attempt


@case("PERMISSION_DENIED", "volume_context[csi.storage.k8s.io/pod.uid]: ")
def pod_uid_that_is_not_the_live_pods(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username")
    node.pod(name, name)  # the pod was replaced by another of its name
    return attempt


@case("INVALID_ARGUMENT", "target_path: ")
def target_in_another_pods_folder(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username")
    return Attempt(attempt.pod, {"target_path": str(node.pod(f"{name}-other", name).target)})


@case("INVALID_ARGUMENT", "target_path: ")
def target_outside_of_kubelets_folder(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username")
    return Attempt(attempt.pod, {"target_path": f"{attempt.pod.target.parent}/../../../../../../../etc/mount"})


@case("INVALID_ARGUMENT", "target_path: ")
def target_that_is_a_symlink(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username")
    attempt.pod.target.symlink_to(node.secrets)
    return attempt


@case("INVALID_ARGUMENT", "target_path: ")
def target_through_a_symlink(node: Node, name: str) -> Attempt:
    attempt = simple(node, name, "payments/db", "username")
    folder = attempt.pod.target.parent
    shutil.move(folder, node.base / name)
    folder.symlink_to(node.base / name)
    return attempt


@case("ALREADY_EXISTS", "target_path: ")
def second_publish_at_another_target(node: Node, name: str) -> Attempt:
    pod = simple(node, name, "payments/db", "username").pod
    return Attempt(pod, {"target_path": str(pod.second().target)}, before=[pod])


@case("PERMISSION_DENIED", "volume_context[csi.storage.k8s.io/serviceAccount.name]: ")
def second_publish_of_another_account(node: Node, name: str) -> Attempt:
    pod = simple(node, name, "payments/db", "username").pod
    return Attempt(pod, {"volume_context": {"csi.storage.k8s.io/serviceAccount.name": "other"}}, before=[pod])


@case("PERMISSION_DENIED", "spec.volumes[secrets].csi.volumeAttributes: ")
def second_publish_of_another_interceptor(node: Node, name: str) -> Attempt:
    pod = simple(node, name, "payments/db", "username").pod
    node.interceptor("richer", [files_of("payments/db", "username", "password")])
    return Attempt(pod, {"volume_context": {"kernelsecret.io/interceptor": "richer"}}, before=[pod])


@pytest.mark.parametrize(("setting", "code", "named"), CASES)
async def test_it_is_refused_with_the_field_named(running: Node, setting: Setting, code: str, named: str) -> None:
    node = running
    node.secret("payments/db", {"username": CANARY, "password": CANARY[::-1]})
    empty = node.footprint()
    attempt = setting(node, f"{setting.__name__.replace('_', '-')[:40]}-{uuid.uuid4().hex[:8]}")
    for pod in attempt.before:
        await node.publish(pod)
    before, refusals = node.footprint(), len(node.logged("volume call refused"))
    error = await node.refused(attempt.pod, **attempt.changes)
    assert error.code == code, error
    assert named in error.details
    assert len(node.logged("volume call refused")) == refusals + 1
    assert node.footprint() == before
    if not attempt.before:
        assert not os.path.isdir(attempt.pod.target) or attempt.pod.target.is_symlink()
    for pod in attempt.before:
        assert isinstance(node.program(pod).read(pod.target / "username", pod.target / "password")[0], bytes | int)
        await node.unpublish(pod)
    await node.settled(empty)
    for form in (CANARY, CANARY[::-1]):
        assert form.decode() not in error.details
    node.assert_kept(CANARY, CANARY[::-1])


@pytest.mark.parametrize("tokens", ["canary-token{", '{"vault": "canary-token"}', '{"canary-token": {"token": 5}}'])
async def test_a_token_that_cannot_be_read_is_not_repeated(running: Node, tokens: str) -> None:
    running.secret("payments/db", {"username": CANARY})
    pod = simple(running, f"tokens-{uuid.uuid4().hex[:8]}", "payments/db", "username").pod
    key = "csi.storage.k8s.io/serviceAccount.tokens"
    error = await running.refused(pod, volume_context={key: tokens})
    assert error.code == "INVALID_ARGUMENT"
    assert key in error.details
    assert "canary-token" not in error.details
    running.assert_kept(b"canary-token")


async def test_a_refusal_is_audited_and_counted(running: Node) -> None:
    pod = simple(running, f"audited-{uuid.uuid4().hex[:8]}", "payments/none", "key").pod
    before = running.metric("kernelsecret_publish_duration_seconds_count", result="NOT_FOUND")
    await running.refused(pod)
    assert running.metric("kernelsecret_publish_duration_seconds_count", result="NOT_FOUND") == before + 1
    assert pod.ref.uid in running.audit.read_text()


async def test_a_refused_publish_can_be_granted_once_it_is_mended(running: Node) -> None:
    name = f"mended-{uuid.uuid4().hex[:8]}"
    before = running.footprint()
    pod = simple(running, name, f"payments/{name}", "key").pod
    with pytest.raises(CallError, match="NOT_FOUND"):
        await running.publish(pod)
    running.secret(f"payments/{name}", {"key": b"there now"})
    await running.publish(pod)
    assert running.program(pod).read(pod.target / "key") == [b"there now"]
    await running.unpublish(pod)
    await running.settled(before)
