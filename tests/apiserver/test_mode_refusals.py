"""What cannot work of the modes, through the real API server: refused, with field and remedy, and explained alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kernelsecret.names import ANNOTATION_CHOSEN_MODE, ANNOTATION_DECISION, ANNOTATION_MODE
from tests.apiserver.harness.ctl import explain
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OF_VAULT, OPTED_IN, container, interceptor, pod
from tests.apiserver.harness.product import objects
from tests.apiserver.harness.webhook import PREFIX, Replica, Webhook

NAMESPACE = "mode-refusals"
TRY = ("create", "--filename=-", "--dry-run=server")
WAIVED: dict[str, Any] = {"access": {"unenforced": "allow"}}
ALL = {"delivery": {"modes": ["ebpf", "preload", "vault-agent"]}}
PLAIN: dict[str, Any] = {"nodeSelector": {"pool": "plain"}}
OPTIONAL: dict[str, Any] = {"configMapKeyRef": {"name": "tools", "key": "preload", "optional": True}}
EITHER: dict[str, Any] = {"secretKeyRef": {"name": "tools", "key": "preload", "optional": True}}


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """A namespace with interceptors that have modes which cannot all be used."""
    webhook.cluster.kubectl.apply(
        interceptor("waives", NAMESPACE, secrets=[OF_VAULT], **WAIVED, **ALL),
        interceptor("strict", NAMESPACE, secrets=[OF_VAULT], **ALL),
        interceptor("ebpf-only", NAMESPACE),
        interceptor("of-files", NAMESPACE, **WAIVED, **ALL),
    )
    return webhook.cluster.namespace(NAMESPACE, OPTED_IN)


def asking(mode: str, by: str = "waives", **spec: Any) -> dict[str, Any]:
    return pod("app", by, annotations={ANNOTATION_MODE: mode}, **spec)


def having(*variables: dict[str, Any], kind: str = "containers") -> dict[str, Any]:
    """A pod in mode preload with these variables in a container of it."""
    with_them = container("with", env=list(variables))
    if kind == "containers":
        return asking("preload", containers=[container("app"), with_them])
    return asking("preload", initContainers=[with_them])


def variable(name: str, value: str = "", **source: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": source} if source else {"name": name, "value": value}


MODE = f"metadata.annotations[{ANNOTATION_MODE}]"
AT = "spec.containers[1].env[0]"
CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a mode that there is not": (asking("magic"), "mode", MODE, "ebpf, preload, vault-agent"),
    "no mode": (asking(""), "mode", MODE, "'' is no mode"),
    "two modes": (asking("ebpf,preload"), "mode", MODE, "'auto'"),
    "a mode in capitals": (asking("Preload"), "mode", MODE, "'Preload' is no mode"),
    "a mode not allowed": (asking("preload", "ebpf-only"), "mode", MODE, "is not one of spec.delivery.modes"),
    "a mode that no node offers": (asking("preload", **PLAIN), "placement", "spec", "placement: require"),
    "a node that does not": (asking("preload", nodeName="plain-1"), "placement", "spec.nodeName", "'plain-1'"),
    "preload, not waived": (
        asking("preload", "strict"),
        "mode",
        "interceptor 'strict': spec.access.unenforced",
        "ebpf",
    ),
    "vault-agent, not waived": (
        asking("vault-agent", "strict"),
        "mode",
        "interceptor 'strict': spec.access.unenforced",
        "set it to `allow`",
    ),
    "vault-agent, of files": (
        asking("vault-agent", "of-files"),
        "mode",
        "interceptor 'of-files': spec.secrets[0].source.file",
        "reads from Vault only",
    ),
    "the shim's paths": (
        having(variable("KERNELSECRET_SHIM_PATHS", "/etc=/tmp")),
        "environment",
        AT,
        "admission alone; remove it",
    ),
    "the shim's paths, in an init container": (
        having(variable("KERNELSECRET_SHIM_PATHS", "/etc=/tmp"), kind="initContainers"),
        "environment",
        "spec.initContainers[0].env[0]",
        "admission alone; remove it",
    ),
    "the shim's paths, from elsewhere": (
        having(variable("KERNELSECRET_SHIM_PATHS", **EITHER)),
        "environment",
        AT,
        "admission alone; remove it",
    ),
    "what keeps the author's": (
        having(variable("KERNELSECRET_OWN_LD_PRELOAD", "/x.so")),
        "environment",
        AT,
        "admission alone; remove it",
    ),
    "perhaps nothing to preload": (
        having(variable("LD_PRELOAD", **OPTIONAL)),
        "environment",
        f"{AT}.valueFrom",
        "remove `optional`",
    ),
    "perhaps a secret to preload": (
        having(variable("LD_PRELOAD", **EITHER)),
        "environment",
        f"{AT}.valueFrom",
        "remove `optional`",
    ),
    "twice something to preload": (
        having(variable("LD_PRELOAD", "/a.so"), variable("LD_PRELOAD", "/b.so")),
        "environment",
        "spec.containers[1].env[1]",
        "twice; write it once",
    ),
    "something in the shim's place": (
        asking(
            "preload",
            containers=[
                container("app", volumeMounts=[{"name": "x", "mountPath": "/run/secrets/kernelsecret.io/shim"}])
            ],
            volumes=[{"name": "x", "emptyDir": {}}],
        ),
        "mount",
        "spec.containers[0].volumeMounts[0].mountPath",
        "'x'",
    ),
}


@pytest.fixture(scope="module")
def explains(shop: Kubectl, webhook: Webhook) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """The command, beside the webhook's Deployment with the settings that its replicas have."""
    cluster = webhook.cluster
    [deployment] = [thing for thing in objects(cluster) if thing["kind"] == "Deployment"]
    [made] = deployment["spec"]["template"]["spec"]["containers"]
    given = {name: value for name, value in webhook.settings.items() if name.startswith("vault_")}
    made["env"] += [variable(f"{PREFIX}{name.upper()}", value) for name, value in given.items()]
    cluster.kubectl.apply(deployment)

    def said(*words: str, given: object = None) -> list[dict[str, Any]]:
        ran = explain(cluster, NAMESPACE, *words, "-o", "json", given=given)
        assert not ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    yield said
    cluster.kubectl("delete", "-f-", given=deployment)


@pytest.fixture(scope="module")
def explained(explains: Callable[..., list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What the command says of all of them, from one manifest."""
    things = {"apiVersion": "v1", "kind": "List", "items": [case[0] for case in CASES.values()]}
    return dict(zip(CASES, explains("-f", "-", given=things), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_pod_that_cannot_be_served_so_is_refused_and_explained_alike(
    shop: Kubectl, explained: dict[str, dict[str, Any]], case: str
) -> None:
    thing, rule, field, words = CASES[case]
    error = shop.refused(*TRY, given=thing)
    assert "denied the request: " in error
    assert f"kernelsecret refuses this (rule {rule}): {field}: " in error
    assert words in error
    assert len(error.splitlines()) == 1
    said = explained[case]
    assert said["outcome"] == "refused"
    [refusal] = said["refusals"]
    assert f"(rule {refusal['rule']}): {refusal['field']}: {refusal['why']}; {refusal['fix']}" in error


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({**WAIVED, "delivery": {"modes": ["magic"]}}, "spec.delivery.modes"),
        ({**WAIVED, "delivery": {"modes": ["vault-agent"]}}, "spec.secrets[0].source.file"),
        ({"secrets": [OF_VAULT], "delivery": {"modes": ["vault-agent"]}}, "spec.access.unenforced"),
        ({"delivery": {"modes": ["preload"]}}, "spec.access.unenforced"),
        ({**WAIVED, "delivery": {"modes": ["preload"], "preload": {"prefixes": ["app"]}}}, "prefixes[0]"),
        ({**WAIVED, "delivery": {"modes": ["preload"], "preload": {"prefixes": ["/a/../b"]}}}, "prefixes[0]"),
        ({**WAIVED, "delivery": {"modes": ["preload"], "preload": {"prefixes": ["/a:/b"]}}}, "prefixes[0]"),
        ({**WAIVED, "delivery": {"modes": ["preload"], "preload": {"prefixes": ["/a=/b"]}}}, "prefixes[0]"),
        ({**WAIVED, "delivery": {"modes": ["preload"], "preload": {"prefixes": ["/"]}}}, "prefixes[0]"),
        ({**WAIVED, "delivery": {"preload": {"prefixes": [f"/a{n}" for n in range(17)]}}}, "prefixes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_interceptor_whose_modes_cannot_work_is_refused(
    shop: Kubectl, webhook: Webhook, change: dict[str, Any], field: str
) -> None:
    error = webhook.cluster.kubectl.refused(*TRY, given=interceptor("cannot-work", NAMESPACE, **change))
    assert field in error


def test_an_interceptor_of_that_name_would_lie_where_the_shim_does(webhook: Webhook) -> None:
    error = webhook.cluster.kubectl.refused(*TRY, given=interceptor("kernelsecret.io", NAMESPACE))
    assert "metadata.name" in error


@contextmanager
def without_settings(webhook: Webhook) -> Iterator[None]:
    """A while in which the only replica knows no Vault."""
    settings = webhook.settings
    replaced = _ending(webhook)
    webhook.settings = {name: value for name, value in settings.items() if not name.startswith("vault_")}
    webhook.start()
    webhook.settings = settings
    webhook.wait_ready()
    try:
        # The API server goes on by connections that it has, until the replica ends.
        for one in replaced:
            one.process.stop()
        yield
    finally:
        replaced = _ending(webhook)
        webhook.fill(2)
        for one in replaced:
            one.process.stop()


def _ending(webhook: Webhook) -> list[Replica]:
    """All replicas, which are told to end: they take a moment, in which others start."""
    replicas = [webhook.forget(name) for name in tuple(webhook.replicas)]
    for one in replicas:
        one.process.terminate()
    return replicas


def test_what_is_explained_of_a_pod_with_a_vault_agent_is_what_it_was_told(
    shop: Kubectl, explains: Callable[..., list[dict[str, Any]]], webhook: Webhook
) -> None:
    thing = asking("auto", **PLAIN)
    [before] = explains("-f", "-", given=thing)
    made = json.loads(shop("create", "--filename=-", "--output=json", given=thing))
    sentence = made["metadata"]["annotations"][ANNOTATION_DECISION]
    assert sentence.startswith("mode vault-agent: it works on the only node that the pod can land on")
    assert re.search("; not ebpf: .*; not preload: ", sentence)
    assert (before["outcome"], before["mode"], before["decision"]) == ("injected", "vault-agent", sentence)
    webhook.cluster.bound(NAMESPACE, "app")
    [live] = explains("app")
    assert (live["outcome"], live["decision"], live["differences"]) == ("injected", sentence, [])
    webhook.cluster.remove_pod(NAMESPACE, "app")


def test_where_nobody_has_set_it_up_the_mode_is_refused_or_passed_over_and_pods_that_have_it_go_on(
    shop: Kubectl, webhook: Webhook
) -> None:
    shop("create", "--filename=-", given=asking("vault-agent") | {"metadata": metadata("has-it")})
    with without_settings(webhook):
        error = shop.refused(*TRY, given=asking("vault-agent"))
        assert re.search(r"\(rule mode\): mode `vault-agent`: .*vault_address.* set both, or use another mode", error)
        # Without a word for one, the order is gone through.
        assert "rule placement" in shop.refused(*TRY, given=pod("app", "waives", **PLAIN))
        kept = json.loads(shop(*TRY, "--output=json", given=pod("app", "waives", nodeSelector={"pool": "iter"})))
        assert kept["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "ebpf"
        # A pod that runs is never judged anew.
        shop("label", "pod/has-it", "tier=web")
        shop("annotate", "pod/has-it", "example.com/note=1")
        assert "(rule status)" in shop.refused(
            "annotate", "--overwrite", "pod/has-it", f"{ANNOTATION_CHOSEN_MODE}=ebpf"
        )
    webhook.cluster.remove_pod(NAMESPACE, "has-it")


def metadata(name: str) -> dict[str, Any]:
    thing: dict[str, Any] = pod(name, "waives", annotations={ANNOTATION_MODE: "vault-agent"})["metadata"]
    return thing
