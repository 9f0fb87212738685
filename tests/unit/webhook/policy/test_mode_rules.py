"""What `/validate` holds pods of the modes `preload` and `vault-agent` to, and what it says of their interceptors."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kernelsecret.names import CONTAINER_VAULT_AGENT, CONTAINER_VAULT_AGENT_INIT
from tests.unit.contract.builders import example
from tests.unit.webhook.builders import (
    NAMESPACE,
    OPTED_IN,
    interceptor,
    mutated,
    node,
    pod,
    refusal,
    response,
    validation,
)
from webhook.admission.answer import Answer, Outcome
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Nodes
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.view import FixedView

SETTINGS = VaultAgentSettings("https://vault.example:8200", "vault:1")
VAULT = {"vault": {"path": "secret/data/db", "role": "shop"}}
SECRETS = [{"name": "db", "source": VAULT, "files": [{"path": "username", "key": "username"}]}]
INTERCEPTORS = "secretinterceptors.kernelsecret.io"
DECISION = "kernelsecret.io/decision"
CHOSEN = "kernelsecret.io/chosen-mode"


def seen(mode: str, **access: str) -> FixedView:
    by = interceptor(secrets=SECRETS, delivery={"modes": [mode]}, access={"unenforced": "allow", **access}, rotation={})
    return FixedView(Nodes([node()]), Interceptors([by]), {NAMESPACE: OPTED_IN}, SETTINGS)


def given(mode: str) -> Any:
    return mutated(pod(), seen(mode))


MODES = ("preload", "vault-agent")


def annotated(thing: Any, name: str, value: str | None) -> Any:
    made = copy.deepcopy(thing)
    if value is None:
        del made["metadata"]["annotations"][name]
    else:
        made["metadata"]["annotations"][name] = value
    return made


def update(old: Any, new: Any) -> Answer:
    return validation(new, old=old, operation="UPDATE")


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_as_admission_made_it_is_allowed(mode: str) -> None:
    answer = validation(given(mode), seen(mode))
    assert (answer.outcome, answer.mode) == (Outcome.ALLOWED, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [None, "", "all is well", "mode ebpf: it works", "mode {}: " + "x" * 1100])
def test_a_decision_that_admission_did_not_write_is_refused(mode: str, value: str | None) -> None:
    text = None if value is None else value.format(mode)
    rule, message = refusal(validation(annotated(given(mode), DECISION, text), seen(mode)))
    assert rule == "status"
    assert f"metadata.annotations[{DECISION}]: " in message


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [DECISION, CHOSEN])
def test_what_admission_wrote_of_the_mode_stays(mode: str, name: str) -> None:
    for value in (None, "mode ebpf: x"):
        rule, message = refusal(update(given(mode), annotated(given(mode), name, value)))
        assert rule == "status"
        assert f"metadata.annotations[{name}]" in message
    plain = pod({})
    assert refusal(update(plain, annotated(plain, name, "mode ebpf: x")))[0] == "status"


@pytest.mark.parametrize("mode", MODES)
def test_what_the_pod_asked_for_stays(mode: str) -> None:
    for name in ("kernelsecret.io/mode", "kernelsecret.io/inject", "kernelsecret.io/containers"):
        rule, _ = refusal(update(given(mode), annotated(given(mode), name, "ebpf")))
        assert rule == "immutable"


@pytest.mark.parametrize("name", [CONTAINER_VAULT_AGENT, CONTAINER_VAULT_AGENT_INIT])
def test_the_image_of_a_vault_agent_stays(name: str) -> None:
    old = given("vault-agent")
    new = copy.deepcopy(old)
    [own] = [one for one in new["spec"]["initContainers"] if one["name"] == name]
    own["image"] = "evil:1"
    rule, message = refusal(update(old, new))
    assert rule == "immutable"
    assert ".image" in message


@pytest.mark.parametrize("mode", MODES)
def test_a_debugger_is_refused_unless_the_interceptor_allows_it(mode: str) -> None:
    old = given(mode)
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"}]
    more = {"operation": "UPDATE", "old": old, "resource": "pods/ephemeralcontainers"}
    rule, message = refusal(validation(new, seen(mode), **more))
    assert rule == "ephemeral"
    assert "the files of the interceptor 'payments-db'" in message
    assert validation(new, seen(mode, ephemeralContainers="allow"), **more).outcome is Outcome.ALLOWED


@pytest.mark.parametrize(
    ("mode", "taken"),
    [("preload", "kernelsecret-shim"), ("vault-agent", "kernelsecret"), ("vault-agent", "kernelsecret-vault-agent")],
)
def test_a_volume_that_somebody_takes_away_again_is_missed(mode: str, taken: str) -> None:
    thing = given(mode)
    thing["spec"]["volumes"] = [one for one in thing["spec"]["volumes"] if one["name"] != taken]
    assert refusal(validation(thing, seen(mode)))[0] == "injected"


@pytest.mark.parametrize("name", [CONTAINER_VAULT_AGENT, CONTAINER_VAULT_AGENT_INIT])
def test_a_container_that_somebody_takes_away_again_is_missed(name: str) -> None:
    thing = given("vault-agent")
    thing["spec"]["initContainers"] = [one for one in thing["spec"]["initContainers"] if one["name"] != name]
    assert refusal(validation(thing, seen("vault-agent")))[0] == "injected"


def test_what_is_called_ours_is_refused_in_a_pod_of_another_mode() -> None:
    thing = given("preload")
    thing["spec"]["initContainers"] = [{"name": CONTAINER_VAULT_AGENT, "image": "x:1"}]
    rule, _ = refusal(validation(thing, seen("preload")))
    assert rule in ("injected", "status")


def judged(**spec: Any) -> Any:
    made = example()
    made["spec"].update(spec)
    unset = FixedView(Nodes([node()]), Interceptors([]), {NAMESPACE: OPTED_IN})
    return validation(made, unset, resource=INTERCEPTORS, namespace="")


WAIVED = {"unenforced": "allow"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"delivery": {"modes": ["ebpf", "preload"]}}, "preload is passed over: spec.access.unenforced"),
        (
            {"delivery": {"modes": ["ebpf", "vault-agent"]}, "access": WAIVED},
            "vault-agent is passed over: spec.secrets",
        ),
        (
            {"delivery": {"modes": ["ebpf", "vault-agent"]}, "access": WAIVED, "secrets": SECRETS, "rotation": {}},
            "vault-agent is passed over: the webhook knows no Vault and no image",
        ),
        (
            {"delivery": {"modes": ["ebpf", "preload"]}, "access": WAIVED},
            "in mode preload, on nodes that serve by `tmpfs`, every process of the pod",
        ),
        ({"delivery": {"modes": ["ebpf"], "preload": {"prefixes": ["/etc/app"]}}}, "spec.delivery.preload is for mode"),
    ],
)
def test_an_author_is_told_of_modes_that_no_pod_will_have(spec: dict[str, Any], words: str) -> None:
    said = response(judged(**spec))
    assert said["allowed"], said
    assert any(words in warning for warning in said["warnings"])


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"delivery": {"modes": ["preload", "vault-agent"]}}, "spec.access.unenforced"),
        ({"delivery": {"modes": ["vault-agent"]}, "access": WAIVED}, "spec.secrets[0].source"),
        (
            {"delivery": {"modes": ["vault-agent", "ebpf"], "placement": "require"}, "access": WAIVED},
            "spec.secrets[0].source",
        ),
    ],
)
def test_an_interceptor_of_which_no_mode_is_left_is_refused(spec: dict[str, Any], field: str) -> None:
    rule, message = refusal(judged(**spec))
    assert rule == "spec"
    assert field in message
