"""The file-backed view of the cluster, on real folders; run as whoever owns them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.kube.cluster import Cluster, CsiVolume
from agent.kube.files import FileCluster
from agent.kube.objects import parse
from agent.model import PodRef
from kernelsecret.errors import Code, Refused

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples" / "cluster"
UID = "0b1f5a52-9d2c-4a53-8f4e-2f1f3c6c7d11"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copied = tmp_path / "cluster"
    shutil.copytree(EXAMPLES, copied)
    for path in [copied, *copied.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copied


@pytest.fixture
def cluster(root: Path) -> Cluster:
    return FileCluster(root, owner_uid=os.geteuid())


async def refusal(cluster: Cluster, name: str = "api-0") -> Refused:
    with pytest.raises(Refused) as caught:
        await cluster.pod("payments", name)
    return caught.value


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(("text", "least_s"), [("30s", 30.0), ("now and then", 0.0), ("9999h", 86400.0)])
async def test_a_namespace_says_how_often_sources_are_asked_at_most(
    root: Path, cluster: Cluster, text: str, least_s: float
) -> None:
    assert (await cluster.pod("payments", "api-0")).least_poll_s == 0.0
    annotated = f"  annotations:\n    kernelsecret.io/poll-interval: {text}\n  labels:"
    edit(root / "namespaces/payments.yaml", "  labels:", annotated)
    assert (await cluster.pod("payments", "api-0")).least_poll_s == least_s


async def test_a_pod_is_read_in_its_own_shape(cluster: Cluster) -> None:
    pod = await cluster.pod("payments", "api-0")
    assert (pod.uid, pod.namespace, pod.name, pod.service_account, pod.node) == (
        UID,
        "payments",
        "api-0",
        "api",
        "node-1",
    )
    assert pod.namespace_labels["kernelsecret.io/inject"] == "enabled"
    assert pod.volumes == {"kernelsecret-payments-db": CsiVolume("payments-db", mounted_by=frozenset({"api"}))}
    assert (pod.fs_group, pod.run_as_user, pod.first_pid, pod.deleted) == (2000, 1000, None, False)
    assert not pod.uses_sub_path


@pytest.mark.parametrize(("text", "is_shim"), [('"true"', True), ('"yes"', False), ('""', False)])
async def test_a_volume_asks_for_the_shim_by_the_attributes_one_value(
    root: Path, cluster: Cluster, text: str, is_shim: bool
) -> None:
    attribute = "kernelsecret.io/interceptor: payments-db"
    edit(root / "pods/payments.api-0.yaml", attribute, f"kernelsecret.io/shim: {text}")
    (volume,) = (await cluster.pod("payments", "api-0")).volumes.values()
    assert (volume.interceptor, volume.is_shim) == (None, is_shim)


async def test_interceptor_and_registration_are_read(cluster: Cluster) -> None:
    assert (await cluster.interceptor("payments-db")).metadata.name == "payments-db"
    assert (await cluster.registration(PodRef("payments", "api-0", UID, "api"))).node == "node-1"


@pytest.mark.parametrize("field", ["subPath: db", "subPathExpr: $(NAME)"])
async def test_a_mount_by_sub_path_is_seen(cluster: Cluster, root: Path, field: str) -> None:
    edit(root / "pods/payments.api-0.yaml", "          readOnly: true\n  volumes", f"          {field}\n  volumes")
    assert (await cluster.pod("payments", "api-0")).uses_sub_path


async def test_first_pid_and_deletion_are_seen(cluster: Cluster, root: Path) -> None:
    path = root / "pods/payments.api-0.yaml"
    edit(
        path,
        "  annotations:\n",
        '  deletionTimestamp: 2026-01-01T00:00:00Z\n  annotations:\n    kernelsecret.io/first-pid: "77"\n',
    )
    pod = await cluster.pod("payments", "api-0")
    assert (pod.first_pid, pod.deleted) == (77, True)
    edit(path, '"77"', '"1"')
    assert "first-pid" in (await refusal(cluster)).why


async def test_containers_of_several_users_have_no_common_one(cluster: Cluster, root: Path) -> None:
    edit(
        root / "pods/payments.api-0.yaml",
        "  containers:\n",
        "  initContainers: [{name: i, securityContext: {runAsUser: 0}}]\n  containers:\n",
    )
    assert (await cluster.pod("payments", "api-0")).run_as_user is None


async def test_a_change_is_seen_at_the_next_call(cluster: Cluster, root: Path) -> None:
    first = await cluster.interceptor("payments-db")
    assert await cluster.interceptor("payments-db") is first
    edit(root / "interceptors/payments-db.yaml", "action: deny", "action: kill")
    assert (await cluster.interceptor("payments-db")).spec.access.action.value == "kill"
    (root / "interceptors/payments-db.yaml").unlink()
    with pytest.raises(Refused) as caught:
        await cluster.interceptor("payments-db")
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("name", ["", "../pods/x", ".hidden", "a/b", "a\0b"])
async def test_names_that_are_paths_are_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(Refused) as caught:
        await cluster.interceptor(name)
    assert caught.value.code is Code.INVALID_ARGUMENT


async def test_an_unknown_pod_is_not_found(cluster: Cluster) -> None:
    assert (await refusal(cluster, "api-1")).code is Code.NOT_FOUND


async def test_a_file_s_name_and_content_must_agree(cluster: Cluster, root: Path) -> None:
    edit(root / "pods/payments.api-0.yaml", "namespace: payments", "namespace: other")
    refused = await refusal(cluster)
    assert refused.code is Code.FAILED_PRECONDITION
    assert "metadata.namespace" in refused.why


async def test_an_invalid_interceptor_is_refused_with_its_field_named(cluster: Cluster, root: Path) -> None:
    edit(root / "interceptors/payments-db.yaml", "path: password", "path: ../password")
    with pytest.raises(Refused) as caught:
        await cluster.interceptor("payments-db")
    assert "spec.secrets[0].files[1].path: " in str(caught.value)


@pytest.mark.parametrize("place", ["pods/payments.api-0.yaml", "pods"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
async def test_what_others_can_write_is_refused(cluster: Cluster, root: Path, place: str, mode: int) -> None:
    await cluster.pod("payments", "api-0")
    path = root / place
    path.chmod(path.stat().st_mode | mode)
    refused = await refusal(cluster)
    assert refused.code is Code.FAILED_PRECONDITION
    assert refused.fix == f"chmod go-w {path}"


async def test_what_somebody_else_owns_is_refused(root: Path) -> None:
    stranger = FileCluster(root, owner_uid=os.geteuid() + 1)
    assert "belongs to uid" in (await refusal(stranger)).why


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
async def test_what_is_no_regular_file_is_refused(cluster: Cluster, root: Path, kind: str) -> None:
    path = root / "pods/payments.api-0.yaml"
    path.rename(path.with_suffix(".old"))
    if kind == "a link":
        path.symlink_to(path.with_suffix(".old"))
    elif kind == "a pipe":
        os.mkfifo(path, 0o600)
    else:
        path.mkdir(mode=0o700)
    assert (await refusal(cluster)).code in (Code.FAILED_PRECONDITION, Code.UNAVAILABLE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2", "twice"),
        ("a: &x 1\nb: *x", "alias"),
        ("a: [1", "line"),
        ("a: 1\n---\nb: 2", "one YAML document"),
        ("a: !!python/object/apply:os.system [true]", "one YAML document"),
        ("a: \x00", "one YAML document"),
        ("? [a]\n: 1", "one YAML document"),
        ("[" * 5000, "one YAML document"),
    ],
)
def test_yaml_with_surprises_is_refused_and_not_repeated(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text.encode())


def test_not_utf8_is_refused_and_dates_stay_text() -> None:
    with pytest.raises(ValueError, match="one YAML document"):
        parse(b"a: \xff\xfe\xff")
    assert parse(b"at: 2026-01-01T00:00:00Z\nmode: 0440\n") == {"at": "2026-01-01T00:00:00Z", "mode": 0o440}
    assert parse(b"") is None
