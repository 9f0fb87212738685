"""The reviews that the webhook is measured with, and what the API server's histograms are read as."""

from __future__ import annotations

import json
import struct

import pytest

from bench import creates
from bench.creates import ADMISSION
from bench.reviews import CONTAINERS, TEAMS, UID, packed, reviews, team
from bench.webhook_world import NODES, _node
from kernelsecret.validation import read_interceptor
from tests.apiserver.harness.objects import OPTED_IN, interceptor
from webhook.admission.mutate import mutate
from webhook.cluster.objects import read_node
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Nodes
from webhook.policy.view import FixedView


def known() -> FixedView:
    nodes = Nodes(read_node(json.dumps(_node(number)).encode()) for number in range(0, NODES, 10))
    names = [team(number) for number in range(TEAMS)]
    selecting = Interceptors(read_interceptor(interceptor(name, name)) for name in names)
    return FixedView(nodes, selecting, {name: {**OPTED_IN, "kubernetes.io/metadata.name": name} for name in names})


@pytest.mark.parametrize("kb", CONTAINERS)
def test_reviews_have_their_size_and_one_uid_and_every_pod_is_injected(kb: int) -> None:
    view = known()
    for body in reviews(kb):
        assert abs(len(body) / (kb * 1000) - 1) < 0.04
        assert body.count(UID.encode()) == 1
        answer = mutate(body, view)
        assert answer.outcome == "injected"
        assert len(answer.containers.split(",")) == CONTAINERS[kb]


def test_half_of_the_pods_name_their_interceptor_and_they_land_on_different_nodes() -> None:
    bodies = [json.loads(body)["request"]["object"] for body in reviews(5)]
    asked = [pod["metadata"]["annotations"]["kernelsecret.io/inject"] for pod in bodies]
    assert asked.count("true") == TEAMS / 2
    assert len({json.dumps([pod["spec"].get("nodeSelector"), pod["spec"].get("affinity")]) for pod in bodies}) == 7


def test_bodies_are_packed_with_their_lengths() -> None:
    assert packed([b"ab", b"c"]) == struct.pack("<I", 2) + b"ab" + struct.pack("<I", 1) + b"c"


async def test_the_webhooks_time_is_read_from_the_api_servers_own_sums() -> None:
    class Server:
        def __init__(self, seconds: float, count: int) -> None:
            labels = 'name="pods.kernelsecret.io",operation="{}",rejected="false",type="admit"'
            self.text = "".join(
                f"{ADMISSION}_{what}{{{labels.format(operation)}}} {value * factor}\n"
                for operation, factor in (("CREATE", 1), ("UPDATE", 100))
                for what, value in (("sum", seconds), ("count", count))
            )

        async def get(self, path: str, **_: object) -> bytes:
            assert path == "/metrics"
            return f"# HELP other\nother 1\n{self.text}".encode()

    before = await creates._admission(Server(1.0, 10))  # type: ignore[arg-type]
    after = await creates._admission(Server(1.5, 110))  # type: ignore[arg-type]
    assert creates._mean_ms(before, after, "admit") == (5.0, 100)
    assert creates._mean_ms(before, after, "validating") == (0.0, 0.0)
