"""Which of the three modes a pod gets: every order of modes, on every kind of node, against an obvious reading."""

from __future__ import annotations

import itertools
import json
from typing import Any, NamedTuple

import pytest

from kernelsecret.interceptor import Mode, SecretInterceptor
from kernelsecret.names import LABEL_ENGINE, LABEL_IDMAPPED
from tests.unit.webhook.builders import interceptor, mutated, node, pod, view
from webhook.policy.choose import Choice, Reasons, choose_mode, mode_steps
from webhook.policy.nodes import Node, Nodes
from webhook.policy.pods import read_pod
from webhook.policy.steps import Refusal, Verdict
from webhook.policy.vault_agent.settings import VaultAgentSettings

INJECT = "kernelsecret.io/inject"
MODE = "kernelsecret.io/mode"
SETTINGS = VaultAgentSettings("https://vault.example:8200", "vault:1")
VAULT = [
    {
        "name": "db",
        "source": {"vault": {"path": "secret/data/db", "role": "shop"}},
        "files": [{"path": "password", "key": "password"}],
    }
]
ORDERS = [
    list(order) for count in (1, 2, 3) for order in itertools.permutations(["ebpf", "preload", "vault-agent"], count)
]
KINDS = ("iter", "rewrite", "tmpfs", "iter+", "tmpfs+", "")
"""Engines of nodes; with a plus where a pod with a user namespace was seen to work."""
CLUSTERS = (
    [[kind] for kind in KINDS]
    + [list(pair) for pair in itertools.combinations(KINDS, 2)]
    + [
        [],
        ["iter", "iter", "iter", ""],
        ["iter", "", "", ""],
        ["tmpfs", "tmpfs+", "iter", "iter+", ""],
        ["iter", "tmpfs", "", "", "", "", ""],
    ]
)


class Case(NamedTuple):
    order: list[str]
    waived: bool
    host_users: bool
    placement: str
    kinds: list[str]


def made(kinds: list[str]) -> Nodes:
    return Nodes(
        node(f"n{index}", kind.rstrip("+"), labels={LABEL_IDMAPPED: "tmpfs"} if kind.endswith("+") else {})
        for index, kind in enumerate(kinds)
    )


def given(order: list[str], *, waived: bool = True, placement: str = "prefer", vault: bool = True) -> SecretInterceptor:
    fields: dict[str, Any] = {"secrets": VAULT, "rotation": {}} if vault else {}
    fields["access"] = {"unenforced": "allow"} if waived else {}
    return interceptor(delivery={"modes": order, "placement": placement}, **fields)


def works(mode: str, kind: str, case: Case) -> bool:
    """Whether a mode works on a node of a kind, as the documentation says it."""
    engine, idmapped = kind.rstrip("+"), kind.endswith("+")
    if mode == "vault-agent":
        return case.waived
    if mode == "preload":
        return case.waived and engine != "" and (case.host_users or idmapped)
    if "preload" in case.order[case.order.index(mode) :] and case.waived and case.placement == "prefer":
        return case.host_users and engine in ("iter", "rewrite")  # ordinary files are for the later one
    if not case.host_users:
        return case.waived and engine == "tmpfs" and idmapped
    return engine in ("iter", "rewrite") or (engine == "tmpfs" and case.waived)


def is_open(mode: str, case: Case) -> bool:
    """Whether it would work on some node, were there one."""
    return any(works(mode, kind, case) for kind in ("iter", "rewrite", "tmpfs", "iter+", "tmpfs+", ""))


def expected(case: Case) -> tuple[str, bool] | str:
    """Mode and whether node affinity is needed, or the rule that refuses."""
    modes = case.order[:1] if case.placement == "require" else case.order
    modes = [mode for mode in modes if is_open(mode, case)]
    if not modes:
        return "mode"
    free = [mode for mode in modes if mode == "vault-agent"]
    if case.placement == "require" or not case.kinds:
        return modes[0], modes[0] not in free
    counts = {mode: sum(works(mode, kind, case) for kind in case.kinds) for mode in modes}
    many = [mode for mode in modes if 2 * counts[mode] >= len(case.kinds)]
    mode = many[0] if many else max(modes, key=lambda one: counts[one])
    if not counts[mode]:
        return "placement"
    return mode, counts[mode] < len(case.kinds)


def chosen(case: Case, settings: VaultAgentSettings | None = SETTINGS) -> Choice:
    thing = pod() if case.host_users else pod(hostUsers=False)
    by = given(case.order, waived=case.waived, placement=case.placement)
    return choose_mode(read_pod(json.dumps(thing).encode()), by, made(case.kinds), settings)


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_every_order_on_every_cluster_is_as_documented(order: list[str]) -> None:
    for waived, host_users, placement, kinds in itertools.product(
        (True, False), (True, False), ("prefer", "require"), CLUSTERS
    ):
        case = Case(order, waived, host_users, placement, kinds)
        wanted = expected(case)
        if isinstance(wanted, str):
            with pytest.raises(Refusal) as caught:
                chosen(case)
            assert caught.value.rule == wanted, case
            continue
        choice = chosen(case)
        assert (choice.mode.value, bool(choice.needs.engines)) == wanted, case
        assert not (choice.needs.idmapped and host_users)
        # What affinity asks for is what makes the mode work.
        labels = dict(choice.needs.labels)
        for index, kind in enumerate(kinds):
            one = made(kinds).get(f"n{index}")
            assert one is not None
            lands = all(one.labels.get(label) in values for label, values in labels.items())
            assert not lands or works(choice.mode.value, kind, case), case


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_a_pod_with_a_node_of_its_own_gets_the_first_mode_that_works_there(order: list[str]) -> None:
    for waived, host_users, kind in itertools.product((True, False), (True, False), KINDS):
        case = Case(order, waived, host_users, "prefer", [kind])
        thing = read_pod(json.dumps(pod(nodeName="n0") | {}).encode())
        if not host_users:
            thing = read_pod(json.dumps(pod(nodeName="n0", hostUsers=False)).encode())
        wanted = [mode for mode in order if works(mode, kind, case)]
        by, nodes = given(order, waived=waived), made([kind])
        if not wanted:
            with pytest.raises(Refusal):
                choose_mode(thing, by, nodes, SETTINGS)
            continue
        choice = choose_mode(thing, by, nodes, SETTINGS)
        assert (choice.mode.value, choice.needs.engines) == (wanted[0], ())


@pytest.mark.parametrize("asked", ["ebpf", "preload", "vault-agent"])
def test_a_mode_that_the_pod_asks_for_is_taken_whatever_the_order(asked: str) -> None:
    thing = read_pod(json.dumps(pod({INJECT: "true", MODE: asked})).encode())
    for order in (one for one in ORDERS if asked in one):
        assert choose_mode(thing, given(order), made(["iter", "iter"]), SETTINGS).mode.value == asked


@pytest.mark.parametrize("asked", ["EBPF", " ebpf", "", "auto,ebpf", "none", "a" * 300])
def test_a_mode_that_does_not_parse_is_refused_with_those_that_are_allowed(asked: str) -> None:
    thing = read_pod(json.dumps(pod({INJECT: "true", MODE: asked})).encode())
    with pytest.raises(Refusal, match=r"is no mode, so none of spec.delivery.modes .*\(ebpf, preload\), or 'auto'"):
        choose_mode(thing, given(["ebpf", "preload"]), made(["iter"]), SETTINGS)


def test_vault_agent_is_passed_over_without_settings_and_for_other_sources() -> None:
    thing = read_pod(json.dumps(pod()).encode())
    order = ["vault-agent", "ebpf"]
    choice = choose_mode(thing, given(order), made(["iter"]))
    assert choice.mode is Mode.EBPF
    assert "vault_address" in choice.sentence
    choice = choose_mode(thing, given(order, vault=False), made(["iter"]), SETTINGS)
    assert choice.mode is Mode.EBPF
    assert "spec.secrets[0].source.file" in choice.sentence
    with pytest.raises(Refusal, match="vault_address"):
        choose_mode(thing, given(["vault-agent"]), made(["iter"]))


def test_vault_agent_needs_no_agent_on_any_node() -> None:
    thing = read_pod(json.dumps(pod()).encode())
    choice = choose_mode(thing, given(["ebpf", "vault-agent"]), made(["", ""]), SETTINGS)
    assert (choice.mode, choice.needs.engines) == (Mode.VAULT_AGENT, ())
    assert choice.sentence == (
        "mode vault-agent: it works on each of the 2 nodes that the pod can land on; the access rule is waived;"
        " not ebpf: it works on none of the 2 nodes"
    )


def test_one_node_that_joins_without_its_label_takes_no_pod_away_from_the_first_mode() -> None:
    thing = read_pod(json.dumps(pod()).encode())
    order = given(["ebpf", "vault-agent"])
    for joined in range(5):
        choice = choose_mode(thing, order, made(["iter"] * 5 + [""] * joined), SETTINGS)
        assert (choice.mode, bool(choice.needs.engines)) == (Mode.EBPF, joined > 0)
    # While the first node of many has an agent, pods are not all sent to that one.
    assert choose_mode(thing, order, made(["iter"] + [""] * 9), SETTINGS).mode is Mode.VAULT_AGENT


def test_a_volume_that_the_author_wrote_rules_the_mode_without_volumes_out() -> None:
    csi = {
        "driver": "csi.kernelsecret.io",
        "readOnly": True,
        "volumeAttributes": {"kernelsecret.io/interceptor": "payments-db"},
    }
    thing = read_pod(json.dumps(pod(volumes=[{"name": "mine", "csi": csi}])).encode())
    choice = choose_mode(thing, given(["vault-agent", "preload"]), made(["iter"]), SETTINGS)
    assert choice.mode is Mode.PRELOAD
    with pytest.raises(Refusal, match=r"spec\.volumes\[0\]\.csi\.driver"):
        choose_mode(thing, given(["vault-agent"]), made(["iter"]), SETTINGS)


def test_each_mode_is_told_of_in_the_interceptors_order() -> None:
    by = given(["ebpf", "preload", "vault-agent"])
    reasons: Reasons = {}
    thing = read_pod(json.dumps(pod(hostUsers=False)).encode())
    choice = choose_mode(thing, by, made(["tmpfs+", "iter+", "iter+"]), SETTINGS, reasons)
    told = [(step.verdict, step.text) for step in mode_steps(by, choice, reasons)]
    assert told == [
        (
            Verdict.NO,
            "mode `ebpf`: bpffs has no idmapped mounts, and ordinary files are for `preload`, which comes later",
        ),
        (Verdict.YES, "mode `preload`: it works on each of the 3 nodes that the pod can land on"),
        (Verdict.NOTE, "mode `vault-agent`: comes after `preload`"),
    ]


def test_an_earlier_choice_stays_also_where_another_would_be_made_now() -> None:
    """By another replica a moment ago, or before a node came: a pod has parts of one mode only."""
    by = given(["ebpf", "preload"])
    before = view(by, nodes=[labelled("a", "")])
    before.nodes.put(labelled("b", "iter"))
    thing = mutated(pod({INJECT: "true"}), before)
    assert thing["metadata"]["annotations"]["kernelsecret.io/chosen-mode"] == "ebpf"
    thing["metadata"]["annotations"]["kernelsecret.io/chosen-mode"] = "preload"
    assert choose_mode(read_pod(json.dumps(thing).encode()), by, made(["iter"]), SETTINGS).mode is Mode.PRELOAD
    thing["metadata"]["annotations"]["kernelsecret.io/chosen-mode"] = "vault-agent"
    # It is none of the interceptor's, so what is there is not believed.
    assert choose_mode(read_pod(json.dumps(thing).encode()), by, made(["iter"]), SETTINGS).mode is Mode.EBPF


def labelled(name: str, engine: str) -> Node:
    return Node(name=name, labels={LABEL_ENGINE: engine} if engine else {})
