"""The table of docs/modes.md, for the mode `vault-agent`: each cell is met beside a real Vault Agent."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from kernelsecret.cli.simulation.pod import Pod
from tests.modes.asking import FIRST, NAME, answers
from tests.modes.table import ROWS, Row, Way
from tests.needs import need
from tests.vault.agent_pods import files, interceptor, may, running, secret
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer

COLUMN = list(Way).index(Way.VAULT_AGENT)


class SidecarPlace:
    """A pod whose files the sidecar renders."""

    environment: Mapping[str, str] = {}

    def __init__(self, vault: VaultServer, path: str, pod: Pod, folder: Path) -> None:
        self._vault, self._path = vault, path
        self.pod = pod
        self.volumes: Mapping[str, Path] = {NAME: folder}

    def change(self, value: str) -> None:
        self._vault.write(self._path, data={"password": value, "tls.crt": FIRST})


@pytest.fixture(scope="module")
def found(vault: VaultServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was met."""
    need(os.geteuid() == 0, "root, for mount namespaces")
    jwt, path = JwtAuth(vault), f"{vault.enable('kv', version='2')}/data/db"
    vault.write(path, data={"password": FIRST, "tls.crt": FIRST})
    token = may(vault, jwt, f"{path}: read")
    wanted = interceptor(secret(jwt, path, *files("password", "tls.crt")))
    with running(tmp_path_factory.mktemp("pod"), vault, token, wanted) as served:
        init = served.init()
        assert init.wait() == 0, init.tail()
        served.sidecar()
        with Pod(str(uuid.uuid4()), "payments", "api-1") as pod:
            return asyncio.run(answers(SidecarPlace(vault, path, pod, served.files)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.question)
def test_a_pod_meets_what_the_table_says(found: dict[str, str], row: Row) -> None:
    assert found[row.question] == row.cells[COLUMN].strip("`")
