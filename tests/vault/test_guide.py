"""docs/vault.md, as a platform engineer follows it: every command of its, in order, and what it promises after them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from agent.csi.client import KubeletClient, publish_message
from agent.csi.tokens import TOKENS_KEY
from kernelsecret.names import AUDIENCE_VAULT
from tests.agent.harness import until
from tests.agent.opening import opened
from tests.agent.tokens import brought
from tests.agent.tree import Pod
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.cluster import lacks as lacks_cluster
from tests.apiserver.harness.parts import part
from tests.apiserver.harness.processes import free_port
from tests.apiserver.harness.product import install
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.webhook import Webhook, serving
from tests.apiserver.harness.whole import WholeNode
from tests.needs import kernel_lacks, need
from tests.vault.harness.postgres import Postgres
from tests.vault.harness.programs import ROOT, postgres_program, vault_program
from tests.vault.harness.server import HOST, VaultServer

GUIDE: Final = ROOT / "docs/vault.md"
NAME: Final = "payments"
PASSWORD: Final = "the-first-password-of-vaults-role"


def commands() -> list[str]:
    """The blocks marked `sh`, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    """A cluster of the test's own with the product in it."""
    need(not kernel_lacks(), kernel_lacks() or "")
    need(not (lack := lacks_cluster()), lack or "")
    with Cluster.started(tmp_path) as cluster:
        install(cluster)
        with serving(cluster, "webhook-a", agent_port=str(free_port())) as started:
            yield started


async def test_who_follows_the_guide_has_a_database_password_that_rotates(
    webhook: Webhook, own_vault: VaultServer, postgres: Postgres, tmp_path: Path
) -> None:
    postgres.query("CREATE DATABASE payments")
    with opened(lambda: WholeNode(webhook, NAME)) as node:
        await node.started(vault_address=own_vault.url, vault_ca_file=str(own_vault.ca_file))
        eventually(node.label, "the node says its engine", explain=node.said)
        node.identified()
        shell = Shell(tmp_path, node, own_vault, postgres)
        *first, secrets, change = commands()
        printed = [shell.run(block) for block in first]
        assert printed[-1].endswith("\nebpf"), "the last of them shows the pod's mode"

        pod = scheduled(node)
        await publish(node, pod)
        program = node.program(pod)
        files = ("username", "password", "pgpass", "token")
        username, password, pgpass, token = program.read(*(pod.target / name for name in files))
        assert isinstance(username, bytes)
        assert isinstance(password, bytes)
        assert (pgpass, token) == (b"*:*:payments:%s:%s\n" % (username, password), b"first")
        with postgres.connect(username.decode(), password.decode()) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (username.decode(),)

        table = shell.run(secrets)
        assert "vault:database/creds/payments-app?role=payments as payments/payments" in table
        assert password.decode() not in table
        shell.run(change)
        await until(lambda: program.read(pod.target / "token") == [b"second"], "the new value is read")
        async with KubeletClient(node.csi_socket) as kubelet:
            await kubelet.unpublish(pod.volume_id, pod.target)
        await until(lambda: username.decode() not in postgres.roles(), "the old role is dropped")


class Shell:
    """Where the commands run, with what the guide says to have."""

    def __init__(self, folder: Path, node: WholeNode, vault: VaultServer, postgres: Postgres) -> None:
        self._folder = folder / "desk"
        self._folder.mkdir()
        programs = [vault_program(), part("kubectl"), Path(sys.executable), postgres_program("psql")]
        path = [str(program.parent) for program in programs if program]
        self._environment = {
            "HOME": str(self._folder),
            "PATH": os.pathsep.join([*path, os.defpath]),
            "KUBECONFIG": str(node.of.server.admin),
            "VAULT_ADDR": vault.url,
            "VAULT_CACERT": str(vault.ca_file),
            "VAULT_TOKEN": vault.root_token,
            "DATABASE_URL": postgres.superuser_dsn("payments"),
            "DATABASE_HOST": f"{HOST}:{postgres.port}",
            "DATABASE_SSLMODE": "disable",
            "VAULTS_PASSWORD": PASSWORD,
            "KERNELSECRET_RUN_DIR": str(node.run),
        }

    def run(self, block: str) -> str:
        """What it prints. AssertionError with its words where a command of it fails."""
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, env=self._environment, cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def scheduled(node: WholeNode) -> Pod:
    """The guide's pod, bound to the only node there is, as kubelet has it."""
    assert node.of.bound(NAME, "api-0") == node.name
    return node.kubelets("api-0")


async def publish(node: WholeNode, pod: Pod) -> None:
    """As kubelet does, with the token that the CSIDriver has it make."""
    token = node.of.token(NAME, pod.ref.service_account, audience=AUDIENCE_VAULT, pod=pod.ref.name)
    message = publish_message(pod.volume_id, pod.target, pod.ref, pod.interceptor)
    message.volume_context[TOKENS_KEY] = brought({AUDIENCE_VAULT: token})
    async with KubeletClient(node.csi_socket) as kubelet:
        await kubelet.publish(message)
