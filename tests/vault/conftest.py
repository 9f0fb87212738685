"""One Vault, one PostgreSQL and one cluster for the whole tier; each test has mounts of its own in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.cluster import lacks as lacks_cluster
from tests.needs import need
from tests.vault.harness.flaky import Flaky
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.postgres import Postgres
from tests.vault.harness.programs import lacks_postgres, lacks_vault
from tests.vault.harness.server import VaultServer


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    """The server that tests share: it is not for sealing, killing or pausing."""
    need(not lacks_vault(), lacks_vault() or "")
    with VaultServer.started(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture
def own_vault(tmp_path: Path) -> Iterator[VaultServer]:
    """A server of the test's own (0.3 s), with which it may do anything."""
    need(not lacks_vault(), lacks_vault() or "")
    folder = tmp_path / "vault"
    folder.mkdir()
    with VaultServer.started(folder) as started:
        yield started


@pytest.fixture
def kv(vault: VaultServer) -> str:
    """Path of an empty KV v2 engine of the test's own."""
    return vault.enable("kv", version="2")


@pytest.fixture
def flaky(vault: VaultServer) -> Iterator[Flaky]:
    """A proxy of the test's own in front of the shared server."""
    with Flaky.before(vault) as proxy:
        yield proxy


@pytest.fixture
def jwt(vault: VaultServer) -> JwtAuth:
    """A jwt login of the test's own."""
    return JwtAuth(vault)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL that tests share."""
    need(not lacks_postgres(), lacks_postgres() or "")
    with Postgres.started() as started:
        yield started


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster without nodes."""
    lack = lacks_cluster("etcd", "kube-apiserver", "kubectl")
    need(lack is None, lack or "")
    with Cluster.started(tmp_path_factory.mktemp("cluster"), scheduler=False) as started:
        yield started
