"""What holds for every pod: the patch applies, changes nothing else, and is the last one that is needed."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.names import DRIVER_NAME, LABEL_ENGINE, LABEL_IDMAPPED
from tests.unit.webhook import strategies
from tests.unit.webhook.builders import (
    MOUNT_PATH,
    NAMESPACE,
    OPTED_IN,
    body,
    interceptor,
    mutated,
    operations,
    validation,
    view,
)
from tests.unit.webhook.policy.test_choose import known
from webhook.admission.answer import Outcome
from webhook.admission.mutate import mutate
from webhook.policy.interceptors import Interceptors
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.view import FixedView

OURS = (
    "kernelsecret.io/interceptor",
    "kernelsecret.io/chosen-mode",
    "kernelsecret.io/injected-containers",
    "kernelsecret.io/decision",
)


def seen_with(described: Any) -> FixedView:
    return view(nodes=known(described))


def without_ours(thing: Any, original: Any) -> Any:
    """The pod with everything taken away that we may have added, and was not there before."""
    made = copy.deepcopy(thing)
    annotations, before = made["metadata"]["annotations"], original["metadata"]["annotations"]
    for name in OURS:
        if name in before:
            annotations[name] = before[name]
        else:
            annotations.pop(name, None)
    labels = made["metadata"]["labels"]
    labels.pop("kernelsecret.io/injected", None)
    if "labels" not in original["metadata"]:
        assert made["metadata"].pop("labels") == {}
    spec, old = made["spec"], original["spec"]
    if len(spec["volumes"]) > len(old.get("volumes") or []):
        assert spec["volumes"].pop()["csi"]["driver"] == DRIVER_NAME
    if "volumes" not in old:
        assert spec.pop("volumes") == []
    for kind in ("initContainers", "containers"):
        for one, other in zip(spec.get(kind, []), old.get(kind, []), strict=True):
            mounts = one.get("volumeMounts", [])
            if len(mounts) > len(other.get("volumeMounts") or []):
                assert mounts.pop()["mountPath"] == MOUNT_PATH
            if "volumeMounts" not in other:
                assert one.pop("volumeMounts", []) == []
    if spec.get("affinity") != old.get("affinity"):
        assert LABEL_ENGINE in str(spec["affinity"])
        assert LABEL_ENGINE not in str(old.get("affinity"))
        spec["affinity"] = old["affinity"] if "affinity" in old else spec.pop("affinity") and None
        if spec["affinity"] is None:
            del spec["affinity"]
    return made


@given(strategies.pods(), strategies.nodes())
def test_an_injected_pod_is_valid_stays_as_it_is_and_had_nothing_else_changed(thing: Any, described: Any) -> None:
    seen = seen_with(described)
    answer = mutate(body(thing), seen)
    if answer.outcome is not Outcome.INJECTED:
        return
    made = mutated(thing, seen)
    assert operations(mutate(body(made), seen)) == []
    assert without_ours(made, thing) == thing
    checked = validation(made, seen)
    assert checked.outcome is Outcome.ALLOWED, checked.message


@given(strategies.pods(), strategies.nodes())
def test_a_pod_that_asks_is_injected_or_refused_and_never_passes_without(thing: Any, described: Any) -> None:
    seen = seen_with(described)
    answer = mutate(body(thing), seen)
    asks = (thing["metadata"].get("annotations") or {}).get("kernelsecret.io/inject", "false") != "false"
    assert asks == (answer.outcome in (Outcome.INJECTED, Outcome.REFUSED))
    checked = validation(thing, seen)
    if answer.outcome is Outcome.REFUSED:
        assert (checked.outcome, checked.rule) == (Outcome.REFUSED, answer.rule)
    if answer.outcome is Outcome.INJECTED and operations(answer):
        added = [one for one in operations(answer) if "affinity" not in one["path"]]
        # Affinity alone is no sign: nodes may have come and gone since the pod was mutated.
        assert (checked.outcome is Outcome.REFUSED) == bool(added)


@given(strategies.pods(), strategies.nodes())
def test_a_pod_that_does_not_ask_is_never_changed(thing: Any, described: Any) -> None:
    thing["metadata"].get("annotations", {}).pop("kernelsecret.io/inject", None)
    answer = mutate(body(thing), seen_with(described))
    assert (answer.outcome, operations(answer)) == (Outcome.NOT_ASKED, [])


# The same of all three modes, in any order, with the rule waived or not.

VAULT = {"vault": {"path": "secret/data/db", "role": "shop"}}
SETTINGS = VaultAgentSettings("https://vault.example:8200", "vault:1")
MODES = ("ebpf", "preload", "vault-agent")
orders = st.permutations(MODES).flatmap(lambda order: st.integers(1, 3).map(lambda count: list(order[:count])))
idmapped = st.lists(st.booleans(), min_size=8, max_size=8)


@given(
    strategies.pods(),
    strategies.nodes(),
    idmapped,
    orders,
    st.booleans(),
    st.sampled_from(["prefer", "require"]),
    st.sampled_from([None, "auto", *MODES, "", "EBPF"]),
    st.sampled_from([None, True, False]),
)
def test_whatever_the_mode_a_pod_is_made_whole_once_or_refused(
    thing: Any,
    described: Any,
    mapped: list[bool],
    order: list[str],
    waived: bool,
    placement: str,
    mode: str | None,
    host_users: bool | None,
) -> None:
    for one, yes in zip(described, mapped, strict=False):
        one["labels"] = {**one["labels"], **({LABEL_IDMAPPED: "tmpfs"} if yes else {})}
    if mode is not None:
        thing["metadata"].setdefault("annotations", {})["kernelsecret.io/mode"] = mode
    if host_users is not None:
        thing["spec"]["hostUsers"] = host_users
    by = interceptor(
        secrets=[{"name": "db", "source": VAULT, "files": [{"path": "username", "key": "username"}]}],
        delivery={"modes": order, "placement": placement},
        access={"unenforced": "allow"} if waived else {},
        rotation={},
    )
    seen = FixedView(known(described), Interceptors([by]), {NAMESPACE: OPTED_IN}, SETTINGS)
    answer = mutate(body(thing), seen)
    if answer.outcome is not Outcome.INJECTED:
        return
    assert answer.mode in order
    assert waived or answer.mode == "ebpf"
    assert mode in (None, "auto", answer.mode)
    made = mutated(thing, seen)
    assert operations(mutate(body(made), seen)) == []
    checked = validation(made, seen)
    assert checked.outcome is Outcome.ALLOWED, checked.message
    # Whatever became of the nodes meanwhile, the mode stays; a pod that no node has a place for is refused at most.
    later = mutate(body(made), FixedView(known([]), Interceptors([by]), {NAMESPACE: OPTED_IN}, SETTINGS))
    assert later.outcome is Outcome.REFUSED or later.mode == answer.mode
    # All that the author wrote is there: containers by their names and images, volumes by theirs.
    for kind in ("initContainers", "containers", "volumes"):
        kept = {one["name"]: one for one in made["spec"].get(kind) or []}
        for one in thing["spec"].get(kind) or []:
            same = ("image", "restartPolicy", "emptyDir", "secret", "hostPath")
            assert {key: one.get(key) for key in same} == {key: kept[one["name"]].get(key) for key in same}
