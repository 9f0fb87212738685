"""Each error of the guide's table, as the pod that asks meets it, while another pod reads on from the same Vault.

The words are those of docs/vault.md: a row there that is wrong, or that nobody can bring about, fails here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.agent.harness import until
from tests.agent.opening import opened
from tests.agent.pods import Program
from tests.agent.tree import Pod
from tests.needs import kernel_lacks, need
from tests.vault.doors import SUBJECT, written
from tests.vault.harness import flaky as faults
from tests.vault.harness.flaky import Fault, Flaky
from tests.vault.harness.logins import AUDIENCE, JwtAuth
from tests.vault.harness.programs import ROOT
from tests.vault.harness.server import HOST, VaultServer, new_path
from tests.vault.nodes import VaultNode, as_pod
from tests.vault.papers import Papers

GUIDE: Final = ROOT / "docs/vault.md"
VALUE: Final = "v1:canary-3c90e1:end"
POLL: Final = {"pollInterval": "200ms"}


@dataclass
class Scene:
    """A node whose agent reads through a proxy; `standing` runs there all the time, and `reader` in it never stops."""

    node: VaultNode
    vault: VaultServer
    flaky: Flaky
    jwt: JwtAuth
    kv: str
    papers: Papers
    stranger: Papers
    folder: Path
    serial: int
    standing: Pod
    reader: Program

    def lists(self, *serials: int, **days: float) -> None:
        """The authority's newest list of what it has revoked."""
        written(self.folder, "list.crl", self.papers.revocations(*serials, **days))


@pytest.fixture(scope="module")
def scene(vault: VaultServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    need(not kernel_lacks(), kernel_lacks() or "")
    folder = tmp_path_factory.mktemp("papers")
    papers, stranger = Papers(folder), Papers(folder, "stranger")
    chain, key, serial = papers.certificate("good", HOST)
    jwt, kv = JwtAuth(vault), vault.enable("kv", version="2")
    vault.write(f"{kv}/data/app", data={"password": VALUE})
    right = vault.policy(f"{kv}/*: read")
    jwt.add_role("web", SUBJECT, right)
    jwt.add_role("powerless", SUBJECT, vault.policy(f"{kv}/data/other: read"))
    jwt.add_role("others", "system:serviceaccount:shop:other", right)
    jwt.add_role("elsewhere", SUBJECT, right, audience="elsewhere")
    with Flaky.before(vault, certificate=(chain, key)) as flaky, opened(VaultNode) as node:
        node.reads_from(vault, url=flaky.url)
        node.env["KERNELSECRET_VAULT_CA_FILE"] = str(written(folder, "pin.crt", papers.pem))
        node.env["KERNELSECRET_VAULT_CRL_FILE"] = str(written(folder, "list.crl", papers.revocations()))
        standing = node.pod_of("standing", as_pod(jwt, f"{kv}/data/app", "web"), "password", rotation=POLL)

        async def begin() -> None:
            await node.started()
            await node.publish_as(standing, jwt)

        asyncio.run(begin())
        reader = node.reader(standing, "password")
        yield Scene(node, vault, flaky, jwt, kv, papers, stranger, folder, serial, standing, reader)
        seen = reader.finish()
        assert (seen.faults, seen.versions) == ([], ["v1"]), "what is wrong with others changes nothing that is served"
        asyncio.run(node.unpublish(standing))


# What goes wrong


@contextmanager
def wrong_authority(scene: Scene) -> Iterator[None]:
    written(scene.folder, "pin.crt", scene.stranger.pem)
    try:
        yield
    finally:
        written(scene.folder, "pin.crt", scene.papers.pem)


@contextmanager
def shown(scene: Scene, name: str, host: str, **days: float) -> Iterator[None]:
    chain, key, _ = scene.papers.certificate(name, host, **days)
    scene.flaky.shows(chain, key)
    try:
        yield
    finally:
        scene.flaky.shows(scene.folder / "good.crt", scene.folder / "good.key")


@contextmanager
def revoked(scene: Scene) -> Iterator[None]:
    scene.lists(scene.serial)
    try:
        yield
    finally:
        scene.lists()


@contextmanager
def old_list(scene: Scene) -> Iterator[None]:
    scene.lists(begins=-3, ends=-1)
    try:
        yield
    finally:
        scene.lists()


@contextmanager
def quota(scene: Scene) -> Iterator[None]:
    """One request a minute: the pod that runs has it."""
    name = new_path("quota")
    scene.vault.write(f"sys/quotas/rate-limit/{name}", path=f"{scene.kv}/", rate=1, interval="60s")
    try:
        yield
    finally:
        scene.vault.delete(f"sys/quotas/rate-limit/{name}")


def answering(fault: Fault) -> Callable[[Scene], AbstractContextManager[None]]:
    return lambda scene: scene.flaky.failing(fault)


@dataclass(frozen=True)
class Case:
    """What is asked for (`path` on the mount) while what goes wrong, and what comes of it: gRPC's code, the metric's
    `kind`; `for_all`: the pod that runs meets it too."""

    code: str
    kind: str
    path: str = "data/app"
    role: str = "web"
    key: str = "password"
    audience: str = AUDIENCE
    during: Callable[[Scene], AbstractContextManager[None]] = lambda scene: nullcontext()
    for_all: bool = False


CASES: Final = {
    "Vault forbids 'P' to auth/...": Case("PERMISSION_DENIED", "denied", role="powerless"),
    "there is nothing at 'P'": Case("NOT_FOUND", "not-found", path="data/absent"),
    "M/ is a KV v2 mount, whose secrets are read below M/data/": Case("INVALID_ARGUMENT", "bad-request", path="app"),
    "Vault has no role 'R' at auth/M": Case("PERMISSION_DENIED", "login", role="absent"),
    "the role 'R' of auth/M is not for the account 'NS/A'": Case("PERMISSION_DENIED", "login", role="others"),
    "the role 'R' of auth/M is not for tokens of the audience 'A'": Case(
        "PERMISSION_DENIED", "login", role="elsewhere"
    ),
    "kubelet brings no service-account token for the audience 'A'": Case(
        "UNAVAILABLE", "no-credential", audience="nobody"
    ),
    "has no key 'K' for the file 'F'": Case("NOT_FOUND", "no-key", key="absent"),
    "its certificate is signed by no authority that is believed": Case(
        "UNAVAILABLE", "tls-untrusted", during=wrong_authority, for_all=True
    ),
    "its certificate is not for 'H'": Case(
        "UNAVAILABLE", "tls-host", during=lambda scene: shown(scene, "named", "vault.example"), for_all=True
    ),
    "its certificate has expired": Case(
        "UNAVAILABLE", "tls-expired", during=lambda scene: shown(scene, "old", HOST, begins=-3, ends=-1), for_all=True
    ),
    "has been revoked": Case("UNAVAILABLE", "tls-revoked", during=revoked, for_all=True),
    "the revocation list has expired": Case("UNAVAILABLE", "tls-crl", during=old_list, for_all=True),
    "it is sealed": Case("UNAVAILABLE", "sealed", during=answering(faults.sealed()), for_all=True),
    "it is a standby that serves no secrets": Case(
        "UNAVAILABLE", "standby", during=answering(faults.answers(472)), for_all=True
    ),
    "it limits the rate of requests": Case("UNAVAILABLE", "throttled", during=quota, for_all=True),
}


def messages() -> list[str]:
    """Those of the guide's table."""
    table = GUIDE.read_text().partition("## What each error means\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


def as_said(message: str) -> str:
    """A pattern: capital letters that stand alone are names, three dots anything."""
    text = re.escape(message).replace(re.escape("..."), ".+")
    return re.sub(r"(?<!\w)(NS|[A-Z])(?!\w)", "[^' ]+", text)


def test_no_error_that_is_tested_here_is_left_out_of_the_guide() -> None:
    assert sorted(messages()) == sorted(CASES)


@pytest.mark.parametrize("message", messages())
async def test_the_error_is_the_guides_and_who_runs_reads_on(scene: Scene, message: str) -> None:
    node, case, words = scene.node, CASES[message], as_said(message)
    source = as_pod(scene.jwt, f"{scene.kv}/{case.path}", case.role)
    source["auth"]["audience"] = case.audience
    pod = node.pod_of(new_path("pod"), source, case.key)
    token = node.token(pod, scene.jwt)
    labels = {"source": "vault", "kind": case.kind}
    before = node.metric("kernelsecret_source_errors_total", **labels)
    with case.during(scene):
        if case.for_all:
            await until(lambda: any(re.search(words, why) for why in node.troubles().values()), "the trouble is told")
            assert node.metric("kernelsecret_source_up", source="vault") == 0
            await until(lambda: re.search(words, node.served()[0]["problem"]) is not None, "so is that of the secret")
        error = await node.refused(pod, volume_context=token)
        assert re.search(words, error.details), error.details
        assert error.code == case.code
        assert node.metric("kernelsecret_source_errors_total", **labels) > before
        assert VALUE not in error.details
        assert node.read(scene.standing, "password") == [VALUE.encode()]
    await until(lambda: not node.troubles(), "all is well again", deadline_s=10)
    assert node.metric("kernelsecret_source_up", source="vault") == 1
    if case.for_all:
        await node.publish(pod, volume_context=token)
        await node.unpublish(pod)
