from __future__ import annotations

import json
from typing import Any

import pytest

from kernelsecret.interceptor import ObjectMeta, SecretInterceptor
from kernelsecret.interceptor_status import Condition, InterceptorStatus
from tests.unit.webhook import builders
from webhook.cluster.objects import InvalidInterceptor
from webhook.cluster.usage import (
    ACCEPTED,
    CURRENT,
    IN_USE,
    READY,
    UNSELECTED,
    Usage,
    UsingPod,
    add,
    desired_status,
    is_given,
    read_using_pod,
)

NOW = "2026-11-21T10:00:00Z"
LATER = "2026-11-21T11:00:00Z"
ENGINES = {"iter": 2, "": 1}
INTERCEPTOR = builders.interceptor()
POD = UsingPod("payments", "api-0", "payments-db", "true", {"app": "api"}, 1)


def injected_pod(**changed: Any) -> dict[str, Any]:
    made: dict[str, Any] = builders.mutated(builders.pod())
    made["metadata"]["name"] = "api-0"
    made["status"] = {"phase": "Running"}
    for path, value in changed.items():
        part, _, name = path.partition("__")
        made[part][name] = value
    return made


def conditions(status: InterceptorStatus) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in status.conditions}


def deleted(interceptor: SecretInterceptor) -> SecretInterceptor:
    meta = ObjectMeta(name=interceptor.metadata.name, deletion_timestamp=NOW)
    return SecretInterceptor(
        api_version=interceptor.api_version, kind=interceptor.kind, metadata=meta, spec=interceptor.spec
    )


def with_status(interceptor: SecretInterceptor, status: InterceptorStatus) -> SecretInterceptor:
    return SecretInterceptor(
        api_version=interceptor.api_version,
        kind=interceptor.kind,
        metadata=interceptor.metadata,
        spec=interceptor.spec,
        status=status,
    )


def test_what_is_kept_of_a_pod_is_what_admission_gave_it() -> None:
    found = read_using_pod(json.dumps(injected_pod()).encode())
    assert found is not None
    assert (found.namespace, found.name, found.interceptor, found.inject, found.volumes) == (
        "payments",
        "api-0",
        "payments-db",
        "true",
        1,
    )
    assert found.labels["app"] == "api"


@pytest.mark.parametrize(
    "changed",
    [
        {"status__phase": "Succeeded"},
        {"status__phase": "Failed"},
        {"spec__volumes": []},
        {"spec__volumes": None},
        {"metadata__annotations": {}},
        {"metadata__annotations": None},
    ],
)
def test_a_pod_that_has_ended_or_holds_nothing_of_ours_does_not_count(changed: dict[str, Any]) -> None:
    assert read_using_pod(json.dumps(injected_pod(**changed)).encode()) is None


def test_a_pod_is_given_what_selects_it_and_it_asks_for() -> None:
    assert is_given(POD, INTERCEPTOR, builders.OPTED_IN)


@pytest.mark.parametrize(
    ("pod", "interceptor", "labels"),
    [
        (POD, INTERCEPTOR, None),
        (POD, INTERCEPTOR, {}),
        (POD, INTERCEPTOR, {**builders.OPTED_IN, "kernelsecret.io/inject": "disabled"}),
        (POD, INTERCEPTOR, {**builders.OPTED_IN, "kubernetes.io/metadata.name": "other"}),
        (POD, builders.interceptor(podSelector={"matchLabels": {"app": "other"}}), builders.OPTED_IN),
        (UsingPod("payments", "api-0", "payments-db", "false", {"app": "api"}, 1), INTERCEPTOR, builders.OPTED_IN),
        (UsingPod("payments", "api-0", "payments-db", "another", {"app": "api"}, 1), INTERCEPTOR, builders.OPTED_IN),
        (POD, deleted(INTERCEPTOR), builders.OPTED_IN),
        (POD, InvalidInterceptor(ObjectMeta(name="payments-db")), builders.OPTED_IN),
    ],
)
def test_a_pod_is_no_longer_given_it_when_any_part_of_its_right_ends(
    pod: UsingPod, interceptor: Any, labels: dict[str, str] | None
) -> None:
    assert not is_given(pod, interceptor, labels)


@pytest.mark.parametrize(
    ("mode", "needs_waiver"), [("ebpf", False), ("preload", True), ("vault-agent", True), ("", False)]
)
def test_a_waiver_that_is_withdrawn_takes_it_from_pods_whose_mode_lives_by_it(mode: str, needs_waiver: bool) -> None:
    made = injected_pod()
    made["metadata"]["annotations"]["kernelsecret.io/chosen-mode"] = mode
    pod = read_using_pod(json.dumps(made).encode())
    assert pod is not None
    waives = builders.interceptor(access={"unenforced": "allow"})
    assert is_given(pod, waives, builders.OPTED_IN)
    assert is_given(pod, INTERCEPTOR, builders.OPTED_IN) is not needs_waiver


def test_sums_are_over_all_parts() -> None:
    namespaces: set[str] = set()
    other = UsingPod("other", "api-0", "payments-db", "true", {}, 2)
    usage = add(Usage(), [POD, other], namespaces, lambda pod: pod is POD)
    usage = add(usage, [POD], namespaces, lambda pod: True)
    assert usage == Usage(pods=3, volumes=4, namespaces=2, unselected=1)


def test_one_that_works_and_is_not_used() -> None:
    status = desired_status(INTERCEPTOR, Usage(), ENGINES, NOW)
    assert conditions(status) == {
        ACCEPTED: ("True", "Valid"),
        READY: ("True", "NodesCanServe"),
        IN_USE: ("False", "NoPods"),
        UNSELECTED: ("False", "AllGiven"),
        CURRENT: ("Unknown", "NoPods"),
    }
    assert {one.last_transition_time for one in status.conditions} == {NOW}
    assert next(one.message for one in status.conditions if one.type == READY) == "2 of 3 nodes can serve it"


def test_pods_and_volumes_are_counted() -> None:
    status = desired_status(INTERCEPTOR, Usage(3, 4, 2, 0), ENGINES, NOW)
    assert (status.pods, status.volumes) == (3, 4)
    used = next(one for one in status.conditions if one.type == IN_USE)
    assert (used.status, used.message) == ("True", "3 pods in 2 namespaces, 4 volumes")


@pytest.mark.parametrize(("on", "reason"), [("keep", "KeepsLastValue"), ("refuse", "RefusesReads")])
def test_running_pods_that_lost_their_right_are_told_of_with_what_they_meet(on: str, reason: str) -> None:
    made = builders.interceptor(delivery={"modes": ["ebpf"], "onUnavailable": on})
    told = desired_status(made, Usage(5, 5, 1, 1), ENGINES, NOW)
    lost = next(one for one in told.conditions if one.type == UNSELECTED)
    assert (lost.status, lost.reason) == ("True", reason)
    assert lost.message.startswith("1 running pod is no longer given it")


def test_without_a_node_that_can_serve_it_is_not_ready() -> None:
    assert conditions(desired_status(INTERCEPTOR, Usage(), {"tmpfs": 3}, NOW))[READY] == ("False", "NoNodeCanServe")
    waived = builders.interceptor(access={"unenforced": "allow"})
    assert conditions(desired_status(waived, Usage(), {"tmpfs": 3}, NOW))[READY] == ("True", "NodesCanServe")


VAULT = [
    {
        "name": "a",
        "source": {"vault": {"path": "kv/data/x", "role": "r"}},
        "files": [{"path": "f", "key": "k"}],
    }
]


def by_vault_agent(*modes: str, **delivery: str) -> SecretInterceptor:
    waived = {"unenforced": "allow"}
    return builders.interceptor(secrets=VAULT, access=waived, delivery={"modes": list(modes), **delivery}, rotation={})


def ready(interceptor: SecretInterceptor, engines: dict[str, int], *, has_vault_agent: bool) -> tuple[str, str]:
    return conditions(desired_status(interceptor, Usage(), engines, NOW, has_vault_agent=has_vault_agent))[READY]


def test_a_mode_that_is_not_set_up_makes_nothing_ready() -> None:
    bare = {"": 3}
    assert ready(by_vault_agent("vault-agent"), bare, has_vault_agent=True) == ("True", "NodesCanServe")
    assert ready(by_vault_agent("vault-agent"), bare, has_vault_agent=False) == ("False", "NotSetUp")
    either = by_vault_agent("preload", "vault-agent")
    assert ready(either, bare, has_vault_agent=True) == ("True", "NodesCanServe")
    assert ready(either, bare, has_vault_agent=False) == ("False", "NoNodeCanServe")


def test_where_the_first_mode_is_required_no_later_one_makes_it_ready() -> None:
    made = by_vault_agent("preload", "vault-agent", placement="require")
    assert ready(made, {"": 3}, has_vault_agent=True) == ("False", "NoNodeCanServe")
    assert ready(made, ENGINES, has_vault_agent=True) == ("True", "NodesCanServe")


@pytest.mark.parametrize(
    "source",
    [{"file": {"path": "x"}}, {"vault": {"path": "kv/data/x", "role": "r"}}, {"kubernetes": {"name": "x"}}],
)
def test_every_source_is_accepted_and_ready_where_a_node_can_serve(source: dict[str, Any]) -> None:
    made = builders.interceptor(secrets=[{"name": "a", "source": source, "files": [{"path": "f", "key": "k"}]}])
    told = conditions(desired_status(made, Usage(), ENGINES, NOW))
    assert told[ACCEPTED] == ("True", "Valid")
    assert told[READY] == ("True", "NodesCanServe")


def test_one_that_can_work_on_no_pod_is_not_accepted() -> None:
    made = builders.interceptor(delivery={"modes": ["preload"]})
    told = desired_status(made, Usage(), ENGINES, NOW)
    assert conditions(told)[ACCEPTED] == ("False", "CannotWork")
    assert conditions(told)[READY] == ("False", "NotAccepted")
    assert "spec.access.unenforced" in told.conditions[0].message


def test_one_that_is_not_valid_says_why() -> None:
    invalid = InvalidInterceptor(ObjectMeta(name="a", generation=3), None, "spec.secrets: empty" + "x" * 4000)
    told = desired_status(invalid, Usage(), ENGINES, NOW)
    assert conditions(told)[ACCEPTED] == ("False", "Invalid")
    assert told.conditions[0].message.startswith("spec.secrets: empty")
    assert len(told.conditions[0].message) <= 1024
    assert told.conditions[0].observed_generation == 3


def test_one_that_is_being_deleted_is_ready_for_nobody() -> None:
    assert conditions(desired_status(deleted(INTERCEPTOR), Usage(), ENGINES, NOW))[READY] == ("False", "BeingDeleted")


def test_a_time_of_transition_is_kept_while_nothing_turns() -> None:
    first = desired_status(INTERCEPTOR, Usage(), ENGINES, NOW)
    assert desired_status(with_status(INTERCEPTOR, first), Usage(), ENGINES, LATER) == first
    second = desired_status(with_status(INTERCEPTOR, first), Usage(1, 1, 1, 0), ENGINES, LATER)
    times = {one.type: one.last_transition_time for one in second.conditions}
    assert times == {ACCEPTED: NOW, READY: NOW, IN_USE: LATER, UNSELECTED: NOW, CURRENT: NOW}


def test_a_condition_that_somebody_left_without_a_time_gets_one() -> None:
    stored = InterceptorStatus(conditions=(Condition(type=ACCEPTED, status="True"),))
    told = desired_status(with_status(INTERCEPTOR, stored), Usage(), ENGINES, NOW)
    assert told.conditions[0].last_transition_time == NOW


OWN = UsingPod("payments", "own-0", "payments-db", "true", {"app": "api"}, 0, "node-1")


def own_agent(**changed: Any) -> dict[str, Any]:
    """A pod in mode `vault-agent`."""
    made = injected_pod(**changed)
    made["spec"]["volumes"] = [{"name": "kernelsecret", "emptyDir": {"medium": "Memory"}}]
    made["spec"]["initContainers"] = [{"name": "other"}, {"name": "kernelsecret-vault-agent"}]
    made["metadata"]["annotations"] |= {"kernelsecret.io/chosen-mode": "vault-agent"}
    return made


def test_a_pod_with_a_vault_agent_of_its_own_counts_and_has_no_volume_of_ours() -> None:
    found = read_using_pod(json.dumps(own_agent()).encode())
    assert found is not None
    assert (found.interceptor, found.volumes) == ("payments-db", 0)
    assert read_using_pod(json.dumps(own_agent(status__phase="Succeeded")).encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"annotations": {"kernelsecret.io/chosen-mode": "ebpf"}}},
        {"spec": {"initContainers": [{"name": "other"}]}},
        {"spec": {"initContainers": None}},
    ],
)
def test_a_pod_that_only_says_so_does_not_count(change: dict[str, Any]) -> None:
    made = own_agent()
    for part, fields in change.items():
        for name, value in fields.items():
            made[part][name] = {**made[part][name], **value} if isinstance(value, dict) else value
    assert read_using_pod(json.dumps(made).encode()) is None


def test_a_pod_in_mode_preload_has_one_volume_that_counts() -> None:
    waived = builders.interceptor(delivery={"modes": ["preload"]}, access={"unenforced": "allow"})
    made = builders.mutated(builders.pod(), builders.view(waived))
    made["metadata"]["name"] = "api-0"
    found = read_using_pod(json.dumps(made).encode())
    assert found is not None
    assert found.volumes == 1


def test_those_with_a_vault_agent_of_their_own_are_told_apart() -> None:
    usage = add(Usage(), [POD, OWN], set(), lambda pod: pod is POD)
    assert (usage.pods, usage.volumes, usage.own, usage.served) == (2, 1, 1, 1)
    status = desired_status(INTERCEPTOR, usage, ENGINES, NOW)
    told = {one.type: one.message for one in status.conditions}
    assert told[IN_USE] == "2 pods in 1 namespace, 1 volume, 1 with a Vault Agent of their own"
    assert "goes on for as long as Vault lets it" in told[UNSELECTED]


def test_of_pods_that_no_agent_of_ours_serves_nothing_is_said_about_their_values() -> None:
    usage = add(Usage(), [OWN], set(), lambda pod: True)
    status = desired_status(INTERCEPTOR, usage, ENGINES, NOW)
    assert conditions(status)[CURRENT] == ("Unknown", "NoPods")
    assert (status.pods, status.volumes, status.secrets) == (1, 0, ())


def test_an_interceptor_whose_mode_works_everywhere_is_ready_without_an_agent() -> None:
    vault = {"vault": {"path": "secret/data/x", "role": "r"}}
    made = builders.interceptor(
        secrets=[{"name": "a", "source": vault, "files": [{"path": "f", "key": "k"}]}],
        delivery={"modes": ["vault-agent"]},
        access={"unenforced": "allow"},
        rotation={},
    )
    for nodes in ({"": 3}, {}):
        assert conditions(desired_status(made, Usage(), nodes, NOW))[READY] == ("True", "NodesCanServe")
