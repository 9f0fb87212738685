"""A webhook that holds every key and lies: what it signs, and the agent takes, still opens nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.decision import decide
from agent.kube.cluster import CsiVolume, LivePod
from agent.model import PodRef, PublishRequest
from kernelsecret.errors import Code, Refused
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import example
from tests.unit.registrations.scene import NODE, UID, AgentDoor, agent_door

LIVE = LivePod(
    uid=UID,
    namespace="payments",
    name="api-0",
    service_account="api",
    node=NODE,
    labels={"app": "api"},
    annotations={"kernelsecret.io/inject": "payments-db"},
    namespace_labels={"kernelsecret.io/inject": "enabled", "kubernetes.io/metadata.name": "payments"},
    volumes={"kernelsecret": CsiVolume("payments-db")},
)


async def opened(agent: AgentDoor, live: LivePod, pod: PodRef, interceptor: str) -> None:
    """What a publish does with the registration that was handed over. Raises Refused."""
    held = agent.book.get(pod.uid)
    assert held is not None
    target = Path(f"/var/lib/kubelet/pods/{pod.uid}/volumes/kubernetes.io~csi/kernelsecret/mount")
    request = PublishRequest("csi-1", target, pod, interceptor)
    made = example()
    made["metadata"]["name"] = interceptor
    decide(request, live, read_interceptor(made), held.registration, NODE, now=agent.clock.now())


ASKED = PodRef("payments", "api-0", UID, "api")


async def test_an_honest_registration_opens() -> None:
    async with agent_door() as agent:
        assert (await agent.request(agent.sign()))[0] == 204
        await opened(agent, LIVE, ASKED, "payments-db")


@pytest.mark.parametrize(
    ("signed", "live", "asked", "interceptor", "field"),
    [
        # The pod is another one now: the name was taken over.
        ({}, {"uid": "another"}, {}, "payments-db", "pod.uid"),
        # It runs under another account than was signed.
        ({"service_account": "admin"}, {}, {}, "payments-db", "registration.serviceAccount"),
        ({"service_account": "admin"}, {}, {"service_account": "admin"}, "payments-db", "serviceAccount.name"),
        # It is of another namespace.
        ({"namespace": "kube-system"}, {}, {}, "payments-db", "registration.namespace"),
        # It runs elsewhere.
        ({}, {"node": "node-2"}, {}, "payments-db", "spec.nodeName"),
        # An interceptor was signed that the pod's spec does not name.
        ({"interceptor": "root-ca"}, {}, {}, "root-ca", "volumeAttributes"),
        ({"interceptor": "root-ca"}, {}, {}, "payments-db", "registration.interceptor"),
        # Its author did not ask for it, or its namespace was never let in.
        ({}, {"annotations": {}}, {}, "payments-db", "kernelsecret.io/inject"),
        ({}, {"namespace_labels": {}}, {}, "payments-db", "kernelsecret.io/inject"),
        # The interceptor does not select it.
        ({}, {"labels": {"app": "other"}}, {}, "payments-db", "podSelector"),
        # It has no volume of ours.
        ({}, {"volumes": {}}, {}, "payments-db", "spec.volumes"),
    ],
)
async def test_a_signed_lie_that_the_cluster_does_not_confirm_opens_nothing(
    signed: dict[str, Any], live: dict[str, Any], asked: dict[str, Any], interceptor: str, field: str
) -> None:
    async with agent_door() as agent:
        assert (await agent.request(agent.sign(**signed)))[0] == 204
        with pytest.raises(Refused) as refused:
            await opened(agent, replace(LIVE, **live), replace(ASKED, **asked), interceptor)
        assert refused.value.code is Code.PERMISSION_DENIED
        assert field in refused.value.field
