"""One cluster for the whole tier; a namespace for each module, or more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.harness.cluster import Cluster, lacks
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.product import install
from tests.needs import need


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


@pytest.fixture
def kubectl(installed: Cluster) -> Kubectl:
    """kubectl as a cluster admin."""
    return installed.kubectl
