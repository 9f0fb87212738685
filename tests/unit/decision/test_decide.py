"""The decision: the plan of the documented example, and a refusal of its own for each disagreement."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision import decide, refresh
from agent.kube.cluster import CsiVolume, LivePod
from agent.model import FilePlan, From, Notify, PodRef, PublishRequest, Quota, SecretRef, VolumePlan
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode, SecretInterceptor
from kernelsecret.registration import Registration
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import changed, example

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODE = "node-1"
REF = PodRef("payments", "api-0", "uid-1", "api")
REQUEST = PublishRequest(
    "csi-1", Path("/var/lib/kubelet/pods/uid-1/volumes/kubernetes.io~csi/db/mount"), REF, "payments-db", 2000
)
POD = LivePod(
    uid="uid-1",
    namespace="payments",
    name="api-0",
    service_account="api",
    node=NODE,
    labels={"app": "api"},
    annotations={"kernelsecret.io/inject": "payments-db"},
    namespace_labels={"kernelsecret.io/inject": "enabled", "kubernetes.io/metadata.name": "payments"},
    volumes={"db": CsiVolume("payments-db")},
    fs_group=2000,
    run_as_user=1000,
)
INTERCEPTOR = read_interceptor(example())
REGISTRATION = Registration(
    pod_uid="uid-1",
    namespace="payments",
    name="api-0",
    service_account="api",
    interceptor="payments-db",
    node=NODE,
    expires_at=NOW + timedelta(minutes=1),
    nonce="0123456789abcdef",
)


def plan(
    request: PublishRequest = REQUEST,
    pod: LivePod = POD,
    interceptor: SecretInterceptor = INTERCEPTOR,
    registration: Registration = REGISTRATION,
    **more: Any,
) -> VolumePlan:
    return decide(request, pod, interceptor, registration, NODE, now=NOW, **more)


def refusal(**facts: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        plan(**facts)
    return caught.value


def test_where_all_agree_the_plan_is_the_interceptor_s() -> None:
    made = plan()
    secret = SecretRef("file", "payments/db")
    assert made.files == (
        FilePlan("username", secret, "username", 0o440),
        FilePlan("password", secret, "password", 0o400),
    )
    assert (made.access.from_, made.access.binaries, made.allow_unenforced) == (From.APP, (), False)
    assert (made.owner_uid, made.fs_group, made.uses_sub_path, made.first_pid) == (1000, 2000, False, None)
    assert made.notify == Notify(signal.SIGHUP, "main")
    assert made.pod_quota == Quota(1 << 20, 16, 2)
    assert made.namespace_quota == Quota(16 << 20, 1024, 256)
    assert made.max_file_bytes == 65536


@pytest.mark.parametrize(
    ("field", "pod"),
    [
        ("volume_context[csi.storage.k8s.io/pod.uid]", {"uid": "uid-2"}),
        ("volume_context[csi.storage.k8s.io/pod.namespace]", {"namespace": "other"}),
        ("volume_context[csi.storage.k8s.io/pod.name]", {"name": "api-1"}),
        ("volume_context[csi.storage.k8s.io/serviceAccount.name]", {"service_account": "default"}),
        ("spec.nodeName", {"node": "node-2"}),
        ("spec.nodeName", {"node": ""}),
        ("spec.volumes", {"volumes": {}}),
        ("spec.volumes[db].csi.volumeAttributes", {"volumes": {"db": CsiVolume("other")}}),
        ("spec.volumes[db].csi.volumeAttributes", {"volumes": {"db": CsiVolume(None)}}),
        ("volume_capability.mount.volume_mount_group", {"fs_group": 3000}),
        ("volume_capability.mount.volume_mount_group", {"fs_group": None}),
        ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {}}),
        ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {"kernelsecret.io/inject": "false"}}),
        ("metadata.annotations[kernelsecret.io/inject]", {"annotations": {"kernelsecret.io/inject": "other"}}),
        (
            "metadata.annotations[kernelsecret.io/mode]",
            {"annotations": {"kernelsecret.io/inject": "true", "kernelsecret.io/mode": "vault-agent"}},
        ),
        ("namespace.metadata.labels[kernelsecret.io/inject]", {"namespace_labels": {}}),
        ("namespace.metadata.labels[kernelsecret.io/inject]", {"namespace_labels": {"kernelsecret.io/inject": "true"}}),
        (
            "interceptor payments-db: spec.namespaceSelector",
            {"namespace_labels": {"kernelsecret.io/inject": "enabled"}},
        ),
        ("interceptor payments-db: spec.podSelector", {"labels": {"app": "other"}}),
    ],
)
def test_a_live_pod_that_disagrees_is_refused(field: str, pod: dict[str, Any]) -> None:
    refused = refusal(pod=replace(POD, **pod))
    assert (refused.code, refused.field) == (Code.PERMISSION_DENIED, field)
    assert refused.why


def chosen(mode: str) -> LivePod:
    return replace(POD, annotations={**POD.annotations, "kernelsecret.io/chosen-mode": mode})


def allowing(*modes: str) -> SecretInterceptor:
    return read_interceptor(changed("spec.delivery.modes", list(modes)))


def test_the_mode_is_the_one_that_admission_chose_and_ebpf_where_nobody_chose() -> None:
    both = allowing("preload", "ebpf")
    assert plan(interceptor=both).mode is Mode.EBPF
    assert plan(pod=chosen("preload"), interceptor=both).mode is Mode.PRELOAD


@pytest.mark.parametrize(
    ("pod", "modes", "why"),
    [
        (chosen("preload"), ["ebpf"], "'preload' is not one of"),
        (chosen("magic"), ["ebpf", "preload", "vault-agent"], "'magic' is not one of"),
        (POD, ["preload"], "missing, which means 'ebpf', and that is not one of"),
        (chosen("vault-agent"), ["ebpf", "vault-agent"], "takes nothing from this node"),
        (chosen("vault-agent"), ["ebpf"], "takes nothing from this node"),
    ],
)
def test_a_mode_that_the_interceptor_or_this_node_does_not_give_is_refused(
    pod: LivePod, modes: list[str], why: str
) -> None:
    refused = refusal(pod=pod, interceptor=allowing(*modes))
    assert (refused.code, refused.field) == (
        Code.PERMISSION_DENIED,
        "metadata.annotations[kernelsecret.io/chosen-mode]",
    )
    assert why in refused.why
    assert refused.fix


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("podUid", "pod_uid"),
        ("namespace", "namespace"),
        ("name", "name"),
        ("serviceAccount", "service_account"),
        ("interceptor", "interceptor"),
        ("node", "node"),
    ],
)
def test_a_registration_that_disagrees_is_refused(field: str, name: str) -> None:
    refused = refusal(registration=msgspec.structs.replace(REGISTRATION, **{name: "other"}))
    assert (refused.code, refused.field) == (Code.PERMISSION_DENIED, f"registration.{field}")
    assert "'other'" in refused.why


def test_an_interceptor_of_another_name_is_refused() -> None:
    refused = refusal(interceptor=read_interceptor(changed("metadata.name", "other")))
    assert refused.field == "volume_context[kernelsecret.io/interceptor]"


def test_an_expired_registration_and_an_ending_pod_are_refused() -> None:
    old = msgspec.structs.replace(REGISTRATION, expires_at=NOW)
    assert refusal(registration=old).field == "registration.expiresAt"
    assert refusal(pod=replace(POD, deleted=True)).field == "metadata.deletionTimestamp"


def test_an_interceptor_that_is_being_deleted_is_refused() -> None:
    refused = refusal(interceptor=read_interceptor(changed("metadata.deletionTimestamp", "2026-01-01T00:00:00Z")))
    assert refused.field == "interceptor payments-db: metadata.deletionTimestamp"


def test_what_is_published_is_asked_for_again_while_its_pod_ends_and_whatever_became_of_its_right() -> None:
    ending = replace(POD, deleted=True, annotations={}, namespace_labels={})
    assert refresh(REQUEST, ending, NODE, plan()) == plan()


@pytest.mark.parametrize(
    ("field", "pod"),
    [
        ("volume_context[csi.storage.k8s.io/pod.uid]", {"uid": "uid-2"}),
        ("volume_context[csi.storage.k8s.io/serviceAccount.name]", {"service_account": "default"}),
        ("spec.nodeName", {"node": "node-2"}),
        ("spec.volumes[db].csi.volumeAttributes", {"volumes": {"db": CsiVolume("other")}}),
        ("volume_capability.mount.volume_mount_group", {"fs_group": 3000}),
    ],
)
def test_what_is_published_is_not_another_pods_when_it_is_asked_for_again(field: str, pod: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        refresh(REQUEST, replace(POD, **pod), NODE, plan())
    assert (caught.value.code, caught.value.field) == (Code.PERMISSION_DENIED, field)


@pytest.mark.parametrize("source", [{"vault": {"path": "kv/db", "role": "api"}}, {"kubernetes": {"name": "db"}}])
def test_a_source_that_this_agent_lacks_is_refused_and_one_that_it_has_is_taken(source: dict[str, Any]) -> None:
    kind = next(iter(source))
    interceptor = read_interceptor(changed("spec.secrets.0.source", source))
    refused = refusal(interceptor=interceptor)
    assert (refused.code, refused.field) == (Code.FAILED_PRECONDITION, f"spec.secrets[0].source.{kind}")
    assert "this agent has no such source" in refused.why
    assert plan(interceptor=interceptor, sources=("file", kind)).files[0].ref.source == kind


def test_annotations_that_allow_are_taken() -> None:
    for allowed in (
        {"kernelsecret.io/inject": "true"},
        {"kernelsecret.io/inject": "true", "kernelsecret.io/mode": "auto"},
        {"kernelsecret.io/inject": "payments-db", "kernelsecret.io/mode": "ebpf"},
    ):
        assert plan(pod=replace(POD, annotations=allowed)) == plan()


def test_sub_path_is_that_of_this_volume_only() -> None:
    pod = replace(POD, volumes={"db": CsiVolume("payments-db"), "other": CsiVolume("other", uses_sub_path=True)})
    assert not plan(pod=pod).uses_sub_path
    assert plan(pod=replace(POD, volumes={"db": CsiVolume("payments-db", uses_sub_path=True)})).uses_sub_path


@given(st.text(max_size=10), st.sampled_from(["uid", "namespace", "name", "service_account"]))
def test_no_claim_but_the_true_one_opens_the_volume(text: str, field: str) -> None:
    claimed = replace(REQUEST, pod=replace(REF, **{field: text}))
    if text == getattr(REF, field):
        assert plan(request=claimed) == plan()
    else:
        refused = refusal(request=claimed)
        assert refused.code is Code.PERMISSION_DENIED
        assert str(refused).isprintable()


def test_tokens_never_come_into_a_plan_or_a_refusal() -> None:
    request = replace(REQUEST, tokens={"vault": "eyJhbGciOi"})
    assert "eyJhbGciOi" not in repr(plan(request=request))
    assert "eyJhbGciOi" not in str(refusal(request=request, pod=replace(POD, uid="uid-2")))


def test_a_container_that_the_interceptor_leaves_out_may_not_mount_the_volume_also_where_admission_was_passed() -> None:
    delivery = msgspec.structs.replace(INTERCEPTOR.spec.delivery, containers=("api",))
    interceptor = msgspec.structs.replace(
        INTERCEPTOR, spec=msgspec.structs.replace(INTERCEPTOR.spec, delivery=delivery)
    )
    mounted = CsiVolume("payments-db", mounted_by=frozenset({"api", "side"}))
    refused = refusal(pod=replace(POD, volumes={"db": mounted}), interceptor=interceptor)
    assert (refused.code, refused.field) == (
        Code.PERMISSION_DENIED,
        "interceptor payments-db: spec.delivery.containers",
    )
    assert "'side'" in refused.why
    assert plan(pod=replace(POD, volumes={"db": mounted})).files
    only = CsiVolume("payments-db", mounted_by=frozenset({"api"}))
    assert plan(pod=replace(POD, volumes={"db": only}), interceptor=interceptor).files


@pytest.mark.parametrize(
    ("source", "setting"),
    [
        ({"vault": {"path": "secret/data/db", "role": "api"}}, "KERNELSECRET_VAULT_ADDRESS"),
        ({"kubernetes": {"name": "db"}}, "KERNELSECRET_CLUSTER"),
    ],
)
def test_a_source_that_the_agent_lacks_is_refused_with_its_setting_named(source: dict[str, Any], setting: str) -> None:
    refused = refusal(interceptor=read_interceptor(changed("spec.secrets.0.source", source)))
    assert (refused.code, refused.field) == (Code.FAILED_PRECONDITION, f"spec.secrets[0].source.{next(iter(source))}")
    assert setting in refused.fix


def test_the_namespace_can_only_lengthen_the_interval() -> None:
    assert plan().poll_s == 1.0
    assert plan(pod=replace(POD, least_poll_s=30.0)).poll_s == 30.0
    assert plan(pod=replace(POD, least_poll_s=0.1)).poll_s == 1.0


def test_a_file_knows_what_the_interceptor_calls_its_secret_and_is_the_same_whatever_that_is() -> None:
    (file, _) = plan().files
    assert file.secret == "db"
    assert file == replace(file, secret="another")
