"""One cluster for the whole tier; a namespace for each module, or more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelsecret.names import LABEL_ENGINE
from tests.apiserver.harness.cluster import Cluster, lacks
from tests.apiserver.harness.processes import free_port
from tests.apiserver.harness.product import away, install
from tests.apiserver.harness.webhook import Webhook, serving
from tests.needs import need

VAULT = {"vault_address": "https://vault.example.com:8200", "vault_agent_image": "example.com/vault:1"}
"""What mode `vault-agent` is set up with: no such pod starts here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that need no webhook come first: once one runs, its leader writes every interceptor's status."""
    served = {item.path for item in items if "first_webhook" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in served)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster without nodes, and without our product."""
    lack = lacks()
    need(lack is None, lack or "")
    folder: Path = tmp_path_factory.mktemp("cluster")
    with Cluster.started(folder) as started:
        yield started


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with the manifests in it; the webhook is not registered."""
    install(cluster)
    return cluster


@pytest.fixture(scope="module")
def alone(installed: Cluster) -> Iterator[Cluster]:
    """The cluster while no webhook of ours is registered."""
    with away(installed):
        yield installed


@pytest.fixture(scope="session")
def nodes(installed: Cluster) -> Cluster:
    """The cluster with nodes: iter-1 and iter-2 serve by `iter`, plain-1 has no agent. All have a label `pool`."""
    for name in ("iter-1", "iter-2"):
        installed.node(name, {LABEL_ENGINE: "iter", "pool": "iter"})
    installed.node("plain-1", {"pool": "plain"})
    return installed


@pytest.fixture(scope="session")
def first_webhook(nodes: Cluster) -> Iterator[Webhook]:
    """Two replicas that were started at once, in a cluster where there were no keys yet."""
    with serving(nodes, "webhook-a", "webhook-b", agent_port=str(free_port()), handover_s="5", **VAULT) as started:
        yield started


@pytest.fixture(scope="module")
def webhook(first_webhook: Webhook) -> Webhook:
    """Two replicas of the webhook, registered: the same for all modules, which put back what they break."""
    first_webhook.fill()
    return first_webhook
