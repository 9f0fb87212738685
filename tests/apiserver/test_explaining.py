"""`kernelsecret-ctl explain` as an operator runs it, beside what the API server and the webhook really do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernelsecret.names import LABEL_INJECT
from tests.apiserver.harness.ctl import explain
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, container, interceptor, pod
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "explaining"


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    cluster = webhook.cluster
    cluster.kubectl.apply(interceptor("explained", NAMESPACE))
    return cluster.namespace(NAMESPACE, OPTED_IN)


def explained(webhook: Webhook, *words: str, given: Any = None) -> tuple[int, dict[str, Any]]:
    ran = explain(webhook.cluster, NAMESPACE, *words, "-o", "json", given=given)
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def test_what_is_explained_of_a_manifest_is_what_the_pod_becomes(shop: Kubectl, webhook: Webhook) -> None:
    thing = pod("app", "true", containers=[container("app"), container("log")])
    status, said = explained(webhook, "-f", "-", given=thing)
    shop.apply(thing)
    made = shop.get("pod", "app")
    assert (status, said["outcome"]) == (0, "injected")
    annotations = made["metadata"]["annotations"]
    assert annotations["kernelsecret.io/injected-containers"] == ",".join(said["containers"])
    assert annotations["kernelsecret.io/interceptor"] == said["interceptor"]
    assert said["engines"] == ["iter", "rewrite"]
    status, live = explained(webhook, "app")
    assert (status, live["outcome"], live["live"], live["differences"]) == (0, "injected", True, [])


def test_a_refusal_is_the_same_in_both(shop: Kubectl, webhook: Webhook) -> None:
    thing = pod("refused", "nothing")
    status, said = explained(webhook, "-f", "-", given=thing)
    assert (status, said["outcome"]) == (1, "refused")
    message = shop.refused("create", "--filename=-", given=thing)
    assert said["refusals"][0]["why"] in message


def test_a_pod_whose_right_has_ended_is_told(shop: Kubectl, webhook: Webhook) -> None:
    shop.apply(pod("later", "explained"))
    webhook.cluster.core.patch_namespace(NAMESPACE, {"metadata": {"labels": {LABEL_INJECT: None}}})
    status, said = explained(webhook, "later")
    assert (status, said["outcome"]) == (1, "refused")
    assert "would be given none now" in said["differences"][0]
