"""What holds for every pod: the patch applies, changes nothing else, and is the last one that is needed."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given

from kernelsecret.names import DRIVER_NAME, LABEL_ENGINE
from tests.unit.webhook import strategies
from tests.unit.webhook.builders import MOUNT_PATH, body, mutated, operations, validation, view
from tests.unit.webhook.policy.test_choose import known
from webhook.admission.answer import Outcome
from webhook.admission.mutate import mutate
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
