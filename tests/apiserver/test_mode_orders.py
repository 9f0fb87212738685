"""An interceptor with several modes, on nodes of each kind: which one a pod is given, where it may run, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_DECISION,
    ANNOTATION_MODE,
    LABEL_ENGINE,
    LABEL_IDMAPPED,
)
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OF_VAULT, OPTED_IN, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "orders"
CREATE = ("create", "--filename=-", "--dry-run=server", "--output=json")
NODES = {
    "order-iter": {LABEL_ENGINE: "iter", LABEL_IDMAPPED: "tmpfs"},
    "order-tmpfs": {LABEL_ENGINE: "tmpfs", LABEL_IDMAPPED: "tmpfs"},
    "order-unmapped": {LABEL_ENGINE: "tmpfs", LABEL_IDMAPPED: "none"},
    "order-unsaid": {LABEL_ENGINE: "tmpfs"},
    "order-plain": {},
}
WAIVED: dict[str, Any] = {"access": {"unenforced": "allow"}}
ORDER = {"modes": ["ebpf", "preload"]}


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Iterator[Kubectl]:
    """A namespace, a node of each kind, and an interceptor of each sort."""
    cluster = webhook.cluster
    for name, labels in NODES.items():
        cluster.node(name, {**labels, "pool": name})
    cluster.kubectl.apply(
        interceptor("order-waived", NAMESPACE, delivery=ORDER, **WAIVED),
        interceptor("order-strict", NAMESPACE, delivery=ORDER),
        interceptor("order-preload", NAMESPACE, delivery={"modes": ["preload", "ebpf"]}, **WAIVED),
        interceptor("order-waits", NAMESPACE, delivery={**ORDER, "placement": "require"}, **WAIVED),
        interceptor(
            "order-all",
            NAMESPACE,
            delivery={"modes": ["ebpf", "preload", "vault-agent"]},
            secrets=[OF_VAULT],
            **WAIVED,
        ),
    )
    kubectl = cluster.namespace(NAMESPACE, OPTED_IN)
    known = pod("known", "order-waived", nodeName="order-unsaid")
    until(lambda: kubectl.run(*CREATE, given=known).status == 0, "the webhook knows the nodes", explain=webhook.tails)
    yield kubectl
    for name in NODES:
        cluster.remove_node(name)


class Case(NamedTuple):
    """A pod for one kind of node: its mode and words of the decision, or words of the refusal."""

    node: str
    by: str
    mode: str
    words: tuple[str, ...]
    asks: str = ""
    host_users: bool | None = None

    def __str__(self) -> str:
        asks = f"-{self.asks}" if self.asks else ""
        return f"{self.by}{asks}{'' if self.host_users is None else '-mapped'}-on-{self.node}"

    def pod(self, **spec: Any) -> dict[str, Any]:
        annotations = {ANNOTATION_MODE: self.asks} if self.asks else {}
        users: dict[str, Any] = {} if self.host_users is None else {"hostUsers": self.host_users}
        return pod("app", self.by, annotations=annotations, **users, **spec)


EACH = "works on the only node"
CASES = [
    Case("order-iter", "order-waived", "ebpf", (EACH,)),
    Case("order-tmpfs", "order-waived", "preload", (EACH, "; not ebpf: ")),
    Case("order-tmpfs", "order-waived", "ebpf", (EACH,), "ebpf"),
    Case("order-plain", "order-waived", "", ("rule placement", LABEL_ENGINE)),
    Case("order-iter", "order-strict", "ebpf", (EACH,)),
    Case("order-tmpfs", "order-strict", "", ("rule placement", "`iter` or `rewrite`")),
    Case("order-plain", "order-strict", "", ("rule placement", "`iter` or `rewrite`")),
    Case("order-iter", "order-preload", "preload", (EACH,)),
    Case("order-tmpfs", "order-preload", "preload", (EACH,)),
    Case("order-plain", "order-all", "vault-agent", ("; not ebpf: ", "; not preload: ")),
    # By the pod's own word.
    Case("order-iter", "order-waived", "preload", ("; not ebpf: the pod asks for preload",), "preload"),
    Case("order-tmpfs", "order-waived", "preload", ("; not ebpf: the pod asks for preload",), "preload"),
    Case("order-plain", "order-waived", "", ("rule placement", LABEL_ENGINE), "preload"),
    Case("order-iter", "order-strict", "", ("rule mode", "spec.access.unenforced"), "preload"),
    Case("order-iter", "order-all", "vault-agent", ("the pod asks for vault-agent",), "vault-agent"),
    Case("order-iter", "order-waived", "ebpf", (EACH,), "auto"),
    # With a user namespace of its own.
    Case("order-iter", "order-waived", "preload", ("; not ebpf: ",), host_users=False),
    Case("order-tmpfs", "order-waived", "preload", (EACH, "ordinary files are for `preload`"), host_users=False),
    Case("order-tmpfs", "order-waived", "preload", (EACH,), "preload", host_users=False),
    Case("order-unmapped", "order-waived", "", ("rule placement", LABEL_IDMAPPED), host_users=False),
    Case("order-unsaid", "order-waived", "", ("rule placement", LABEL_IDMAPPED), host_users=False),
    Case("order-unmapped", "order-all", "vault-agent", ("; not preload: ",), host_users=False),
    Case("order-tmpfs", "order-strict", "", ("rule mode", "spec.hostUsers", "bpffs"), host_users=False),
    Case("order-unmapped", "order-waived", "preload", (EACH,), host_users=True),
]


@pytest.mark.parametrize("way", ["selector", "name"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_pod_is_given_the_first_mode_that_works_where_it_can_land(shop: Kubectl, case: Case, way: str) -> None:
    where = {"nodeName": case.node} if way == "name" else {"nodeSelector": {"pool": case.node}}
    ran = shop.run(*CREATE, given=case.pod(**where))
    if not case.mode:
        assert [word for word in case.words if word not in ran.err] == [], ran.err
        return
    assert ran.status == 0, ran.err
    kept = json.loads(ran.out)
    annotations = kept["metadata"]["annotations"]
    assert annotations[ANNOTATION_CHOSEN_MODE] == case.mode
    sentence = annotations[ANNOTATION_DECISION]
    words = [word for word in case.words if word is not EACH or way == "selector"]
    assert [word for word in words if word not in sentence] == [], sentence
    # What is true of all nodes that it can land on is not asked for.
    assert "affinity" not in kept["spec"]


def required(kept: dict[str, Any]) -> dict[str, list[str]]:
    """What each term of a pod's node affinity asks for."""
    affinity = kept["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = affinity["nodeSelectorTerms"]
    return {one["key"]: one["values"] for one in term["matchExpressions"]}


@pytest.mark.parametrize(("host_users", "asked"), [(None, {}), (False, {LABEL_IDMAPPED: ["tmpfs"]})])
def test_where_placement_is_required_the_first_mode_is_waited_for_and_no_other_is_taken(
    shop: Kubectl, host_users: bool | None, asked: dict[str, list[str]]
) -> None:
    for node in ("order-plain", "order-unsaid"):
        case = Case(node, "order-waits", "ebpf", (), host_users=host_users)
        kept = json.loads(shop(*CREATE, given=case.pod(nodeSelector={"pool": node})))
        assert kept["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "ebpf"
        assert "placement is `require`" in kept["metadata"]["annotations"][ANNOTATION_DECISION]
        engines = ["iter", "rewrite", "tmpfs"] if host_users is None else ["tmpfs"]
        assert required(kept) == {LABEL_ENGINE: engines, **asked}


def test_a_required_placement_does_not_hold_where_the_pod_asks_for_a_later_mode(shop: Kubectl) -> None:
    case = Case("order-plain", "order-waits", "preload", (), "preload")
    kept = json.loads(shop(*CREATE, given=case.pod(nodeSelector={"pool": "order-plain"})))
    assert kept["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "preload"
    assert required(kept) == {LABEL_ENGINE: ["iter", "rewrite", "tmpfs"]}
