"""`choose_mode` against a slow and obvious reading of the same rules, and its corners one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.interceptor import Mode, SecretInterceptor
from kernelsecret.names import LABEL_ENGINE
from tests.unit.webhook.builders import interceptor, node, pod
from tests.unit.webhook.strategies import nodes as node_lists
from tests.unit.webhook.strategies import scheduling
from webhook.policy.choose import Choice, choose_mode
from webhook.policy.nodes import Landing, Node, Nodes
from webhook.policy.pods import read_pod
from webhook.policy.scheduling import Taint
from webhook.policy.steps import Refusal

BOTH = ("iter", "rewrite")
PASSING = "node.kubernetes.io/not-ready"


def choose(thing: Any, nodes: Nodes, given_by: SecretInterceptor | None = None) -> Choice:
    return choose_mode(read_pod(json.dumps(thing).encode()), given_by or interceptor(), nodes)


def landing(nodes: Nodes, thing: Any) -> Landing:
    found = nodes.landing(read_pod(json.dumps(thing).encode()).spec)
    assert found is not None
    return found


def known(described: list[dict[str, Any]]) -> Nodes:
    return Nodes(
        node(
            one["name"],
            one["engine"],
            labels=one["labels"],
            taints=tuple(Taint(**taint) for taint in one["taints"]),
            unschedulable=one["unschedulable"],
        )
        for one in described
    )


def holds(requirement: dict[str, Any], found: str | None) -> bool:
    """One requirement of node affinity, as the documentation of Kubernetes says it."""
    operator: str = requirement["operator"]
    values: list[str] = requirement.get("values", [])
    if operator == "In":
        return found is not None and found in values
    if operator == "NotIn":
        return found is None or found not in values
    if operator in ("Exists", "DoesNotExist"):
        return (found is not None) == (operator == "Exists")
    if found is None or not found.isdigit():
        return False
    return int(found) > int(values[0]) if operator == "Gt" else int(found) < int(values[0])


def accepts(term: dict[str, Any], one: dict[str, Any]) -> bool:
    expressions, fields = term.get("matchExpressions", []), term.get("matchFields", [])
    if expressions == fields == []:
        return False
    labels = all(holds(each, one["labels"].get(each["key"])) for each in expressions)
    return labels and all(holds(each, one["name"]) for each in fields)


def tolerated(taint: dict[str, str], tolerations: list[dict[str, Any]]) -> bool:
    for each in tolerations:
        operator = each.get("operator") or "Equal"
        same_key = each.get("key", "") == taint["key"] or (each.get("key", "") == "" and operator == "Exists")
        same_effect = each.get("effect", "") in ("", taint["effect"])
        if same_key and same_effect and (operator == "Exists" or each.get("value", "") == taint["value"]):
            return True
    return False


def can_land(spec: dict[str, Any], one: dict[str, Any]) -> bool:
    if any(one["labels"].get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return False
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not any(accepts(term, one) for term in required["nodeSelectorTerms"]):
        return False
    taints = [taint for taint in one["taints"] if taint["key"] != PASSING]
    if one["unschedulable"]:
        taints.append({"key": "node.kubernetes.io/unschedulable", "value": "", "effect": "NoSchedule"})
    hard = [taint for taint in taints if taint["effect"] != "PreferNoSchedule"]
    return all(tolerated(taint, spec.get("tolerations", [])) for taint in hard)


def reference(spec: dict[str, Any], described: list[dict[str, Any]], engines: tuple[str, ...]) -> str:
    """What becomes of a pod in mode `ebpf`: anywhere, with affinity, or refused."""
    landable = [one for one in described if can_land(spec, one)]
    able = [one for one in landable if one["engine"] in engines]
    if not landable:
        return "affinity"
    if len(able) == len(landable):
        return "anywhere"
    return "affinity" if able else "refused"


@given(scheduling, node_lists(), st.booleans())
def test_it_agrees_with_the_obvious_reading(spec: Any, described: list[dict[str, Any]], tmpfs: bool) -> None:
    engines = (*BOTH, "tmpfs") if tmpfs else BOTH
    given_by = interceptor(access={"unenforced": "allow"} if tmpfs else {})
    expected = reference(spec, described, engines)
    if expected == "refused":
        with pytest.raises(Refusal) as caught:
            choose(pod(**spec), known(described), given_by)
        assert caught.value.rule == "placement"
        return
    choice = choose(pod(**spec), known(described), given_by)
    assert choice.mode is Mode.EBPF
    assert choice.needs.engines == (engines if expected == "affinity" else ())


@given(scheduling, node_lists())
def test_require_never_depends_on_the_nodes(spec: Any, described: list[dict[str, Any]]) -> None:
    given_by = interceptor(delivery={"placement": "require"})
    assert choose(pod(**spec), known(described), given_by).needs.engines == BOTH


@given(scheduling, node_lists())
def test_what_is_remembered_is_what_is_found_anew(spec: Any, described: list[dict[str, Any]]) -> None:
    nodes = known(described)
    first = landing(nodes, pod(**spec))
    assert landing(nodes, pod(**spec)) is first
    extra = node("extra", "iter")
    nodes.put(extra)
    more = landing(nodes, pod(**spec))
    nodes.remove("extra")
    assert landing(nodes, pod(**spec)) == first
    assert more.total - first.total == can_land(
        spec, {"name": "extra", "labels": dict(extra.labels), "taints": [], "unschedulable": False}
    )


def test_a_pod_with_a_node_of_its_own_is_judged_by_that_node_alone() -> None:
    nodes = Nodes([node("a", "rewrite", taints=(Taint("x", "", "NoSchedule"),), unschedulable=True), node("b", "")])
    assert choose(pod(nodeName="a"), nodes).needs.engines == ()
    assert choose(pod(nodeName="a"), nodes, interceptor(delivery={"placement": "require"})).needs.engines == ()
    with pytest.raises(Refusal, match=r"kernelsecret\.io/engine is missing"):
        choose(pod(nodeName="b"), nodes, interceptor(delivery={"placement": "require"}))


def test_tmpfs_counts_only_where_the_interceptor_waives_the_access_rule() -> None:
    nodes = Nodes([node("a", "tmpfs")])
    assert choose(pod(), nodes, interceptor(access={"unenforced": "allow"})).needs.engines == ()
    with pytest.raises(Refusal, match="placement: require"):
        choose(pod(), nodes)


def test_a_mode_that_is_not_served_is_passed_over_for_the_next() -> None:
    given_by = interceptor(delivery={"modes": ["vault-agent", "ebpf"]})
    assert choose(pod(), Nodes([node()]), given_by).mode is Mode.EBPF


@pytest.mark.parametrize("wrong", [{"nodeSelector": []}, {"tolerations": {}}, {"affinity": {"nodeAffinity": 1}}])
@pytest.mark.parametrize("placement", ["prefer", "require"])
def test_constraints_that_make_no_sense_are_refused(wrong: dict[str, Any], placement: str) -> None:
    with pytest.raises(Refusal, match="look at their types"):
        choose(pod(**wrong), Nodes([node()]), interceptor(delivery={"placement": placement}))


def test_what_a_node_is_at_the_moment_changes_nothing() -> None:
    passing = (Taint("node.kubernetes.io/unreachable", "", "NoExecute"), Taint(PASSING, "", "NoSchedule"))
    nodes = Nodes([node("a", "iter", taints=passing)])
    assert landing(nodes, pod()).total == 1


def test_an_address_or_a_repeated_state_is_no_change_and_an_engine_is() -> None:
    nodes = Nodes([node("a", "iter")])
    before = nodes.generation
    nodes.put(node("a", "iter", address="10.0.0.1"))
    nodes.remove("never there")
    assert nodes.generation == before
    assert nodes.get("a") == Node(name="a", labels=node("a", "iter").labels, address="10.0.0.1")
    nodes.put(node("a", "tmpfs"))
    assert nodes.generation == before + 1
    assert (len(nodes), [one.name for one in nodes]) == (1, ["a"])


@pytest.mark.parametrize(("operator", "lands"), [("Lt", True), ("Gt", False)])
def test_tolerations_that_compare_numbers_are_understood(operator: str, lands: bool) -> None:
    nodes = Nodes([node("a", taints=(Taint("cost", "5", "NoSchedule"),))])
    thing = pod(tolerations=[{"key": "cost", "operator": operator, "value": "7", "effect": "NoSchedule"}])
    assert landing(nodes, thing).total == lands


@pytest.mark.parametrize(
    "requirement",
    [
        {"key": "zone", "operator": "In"},
        {"key": "zone", "operator": "Gt"},
        {"key": "zone", "operator": "Gt", "values": ["1", "2"]},
        {"key": "zone", "operator": "Lt", "values": ["many"]},
        {"key": "zone", "operator": "Near", "values": ["a"]},
        {"operator": "Exists"},
    ],
)
def test_requirements_that_nobody_validated_accept_no_node(requirement: dict[str, Any]) -> None:
    nodes = Nodes([node("a", labels={"zone": "5"})])
    required = {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}
    thing = pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})
    assert landing(nodes, thing).total == 0


def test_hostile_constraints_are_not_kept() -> None:
    nodes = Nodes([node()])
    for number in range(2000):
        nodes.landing(read_pod(json.dumps(pod(nodeSelector={"x": str(number)})).encode()).spec)
    huge = read_pod(json.dumps(pod(nodeSelector={"x": "y" * 100_000})).encode()).spec
    nodes.landing(huge)
    assert len(nodes._landings) <= 1024
    assert all(sum(map(len, key)) <= 4096 for key in nodes._landings)


def test_constraints_that_are_asked_for_again_and_again_stay_remembered_among_those_that_never_come_again() -> None:
    nodes = Nodes([node()])
    first = landing(nodes, pod())
    for number in range(3000):
        nodes.landing(read_pod(json.dumps(pod(nodeSelector={"x": str(number)})).encode()).spec)
        if number % 500 == 0:
            assert landing(nodes, pod()) is first


HOSTILE: dict[str, dict[str, Any]] = {
    "terms": {"affinity": [{"matchExpressions": [{"key": "x", "operator": "Exists"}]}] * 20_000},
    "values": {"affinity": [{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["v"] * 200_000}]}]},
    "fields": {"affinity": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["v"]}] * 20_000}]},
    "selector": {"nodeSelector": {f"k{number}": "v" for number in range(50_000)}},
    "tolerations": {"tolerations": [{"key": "x", "operator": "Exists"}] * 50_000},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pod_whose_requirements_would_stop_the_webhook_is_not_compared_with_every_node(kind: str) -> None:
    compared = 0

    class Labels(dict[str, str]):
        def get(self, *asked: Any) -> Any:
            nonlocal compared
            compared += asked[0] != LABEL_ENGINE
            return super().get(*asked)

    nodes = Nodes(Node(name=f"n{number}", labels=Labels({LABEL_ENGINE: "iter", "zone": "a"})) for number in range(500))
    spec = dict(HOSTILE[kind])
    if "affinity" in spec:
        required = {"nodeSelectorTerms": spec["affinity"]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    choice = choose(pod(**spec), nodes)
    # It lands where it can be served, or waits: never on a node that nobody has looked at.
    assert choice.needs.engines == BOTH
    assert "too many requirements" in choice.why
    assert compared == 0
    assert choose(pod(**spec), nodes, interceptor(delivery={"placement": "require"})).needs.engines == BOTH


def test_hundreds_of_node_names_are_compared_as_ever() -> None:
    nodes = Nodes([node(f"n{number}", "iter") for number in range(1000)])
    names = [f"n{number}" for number in range(500)]
    expression = {"key": "metadata.name", "operator": "In", "values": names}
    required = {"nodeSelectorTerms": [{"matchFields": [expression]}]}
    choice = choose(pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}), nodes)
    assert choice.needs.engines == ()
    assert "500 nodes" in choice.why
