"""Unmodified programs read a served secret, see its rotation, and are refused: every row of docs/readers.md."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.model import AccessRule, From
from tests.kernel.harness import peers
from tests.kernel.harness.calls import CALLS, SCRIPT
from tests.kernel.harness.calls import VALUE as TEN_BYTES
from tests.kernel.harness.family import PYTHON, Actor
from tests.kernel.harness.node import Node
from tests.kernel.harness.readers import READERS, TOOLS, Reader
from tests.kernel.harness.waiting import wait_until
from tests.needs import need_program

PROGRAMS = Path(__file__).parent / "harness" / "programs"
GENERATIONS = ("generation-1", "generation-2")
AS_SHIPPED = ("passwd", "group", "ssl/openssl.cnf")
MODE = 0o400  # psql takes no password file that others may read


def run(*command: str | Path, **environment: str) -> None:
    """A program of the set-up, which must not fail."""
    subprocess.run([str(word) for word in command], check=True, capture_output=True, env=os.environ | environment)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the programs bring along, and a certificate with its key for each generation."""
    folder = tmp_path_factory.mktemp("tools")
    for path in PROGRAMS.iterdir():
        shutil.copy(path, folder)
    for name in GENERATIONS:
        key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
        run(
            need_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
            "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", key, "-out", certificate,
        )  # fmt: skip
        run("openssl", "pkey", "-in", key, "-pubout", "-out", folder / f"{name}.pub")
        run("openssl", "pkey", "-in", key, "-aes256", "-passout", f"pass:{name}", "-out", folder / f"{name}.locked")
    return folder


@pytest.fixture(scope="session")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little of /etc that an image brings for these programs."""
    folder = tmp_path_factory.mktemp("etc")
    for name in (*AS_SHIPPED, *(path.name for path in Path("/etc").glob("java-*"))):
        source = Path("/etc") / name
        (folder / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    return folder


def values(tools: Path, generation: str) -> dict[str, bytes]:
    """A secret of this generation, in the shapes that the programs want."""
    return {
        "password": f"{generation}\n".encode(),
        "tls.crt": (tools / f"{generation}.crt").read_bytes(),
        "tls.key": (tools / f"{generation}.key").read_bytes(),
        "netrc": f"machine localhost login web password {generation}\n".encode(),
        "pgpass": f"*:*:*:web:{generation}\n".encode(),
        "header": f"X-Token: {generation}\n".encode(),
        "env.sh": f"v={generation}\n".encode(),
    }


@dataclass
class Servers:
    """What the programs talk to; they show the certificate of one generation."""

    https: peers.Https
    postgres: peers.Postgres
    tools: Path

    def show(self, generation: str) -> None:
        """To every client from now on."""
        for server in (self.https, self.postgres):
            server.shown = generation
            server.context.load_cert_chain(self.tools / f"{generation}.crt", self.tools / f"{generation}.key")

    def ports(self) -> dict[str, int]:
        """By the names in the rows' commands."""
        return {"https": self.https.server_address[1], "postgres": self.postgres.server_address[1]}


@pytest.fixture
def servers(tools: Path) -> Iterator[Servers]:
    certificates = [tools / f"{name}.crt" for name in GENERATIONS]
    key = tools / f"{GENERATIONS[0]}.key"
    contexts = [peers.context_for(certificates[0], key, certificates) for _ in range(2)]
    found = Servers(peers.Https(contexts[0]), peers.Postgres(contexts[1]), tools)
    found.show(GENERATIONS[0])
    threads = [peers.start(server) for server in (found.https, found.postgres)]
    yield found
    for server, thread in zip((found.https, found.postgres), threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def program(name: str) -> str:
    """The program itself: Debian's `psql` and `java` are wrappers and links into /etc, which an image may not have."""
    if name == "python3":
        return PYTHON
    if name == "psql" and (found := sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))):
        return str(found[-1])
    return name if name.startswith(TOOLS) else os.path.realpath(need_program(name))


def build(tools: Path, name: str) -> None:
    """Compile what a program of this language needs, once."""
    if name == "java" and not (tools / "Read.class").exists():
        run(need_program("javac"), "-d", tools, tools / "Read.java")
    if name == "go" and not (tools / "read").exists():
        cache = str(tools / "cache")
        run(
            need_program("go"), "build", "-o", tools / "read", tools / "read.go",
            GOCACHE=cache, GOTOOLCHAIN="local", GOPROXY="off", GOFLAGS="", CGO_ENABLED="0", HOME=cache,
        )  # fmt: skip


def attempt(actor: Actor, reader: Reader, ports: dict[str, int]) -> tuple[int, str]:
    """Exit status, and all that the program said."""
    words = list(reader.command)
    if words[0] in ("env", "timeout"):  # what these start is a program, too
        words[2] = program(words[2])
    words[0] = program(words[0])
    for name, port in ports.items():
        words = [word.replace(f"{{{name}}}", str(port)) for word in words]
    status, out, complaint = actor.run(*words)
    return status, out.decode(errors="replace") + complaint


@pytest.mark.parametrize("name", dict.fromkeys(reader.program for reader in READERS))
def test_every_row_of_the_table_is_true(node: Node, tools: Path, etc: Path, servers: Servers, name: str) -> None:
    build(tools, name)
    rows = [reader for reader in READERS if reader.program == name]
    pod = node.pod()
    node.publish(pod, {"db": values(tools, GENERATIONS[0])}, AccessRule(From.APP), mode=MODE)
    app = pod.container(mounts=((tools, TOOLS), (etc, "/etc")))
    shell = pod.exec(app)
    problems = []
    for generation in GENERATIONS:
        if generation != GENERATIONS[0]:
            node.rotate("db", **values(tools, generation))
            servers.show(generation)
        for reader in rows:
            status, said = attempt(app, reader, servers.ports())
            if (reader.fails or generation) not in said:
                problems.append(f"{reader.name}, {generation}: {status} {said!r}")
    for reader in rows:
        status, said = attempt(shell, reader, servers.ports())
        if status != reader.status or reader.says not in said or "generation" in said:
            problems.append(f"{reader.name}, refused: {status} {said!r}")
    assert not problems, "\n".join(problems)


def test_nginx_shows_a_rotated_certificate_after_a_reload_and_before_it_the_old_one(
    node: Node, tools: Path, etc: Path
) -> None:
    """It reads certificates when it starts and when it is told to: what `rotation.notify` with SIGHUP is for."""
    need_program("nginx")
    pod = node.pod()
    node.publish(pod, {"db": values(tools, GENERATIONS[0])}, AccessRule(From.APP), mode=MODE)
    app = pod.container(mounts=((tools, TOOLS), (etc, "/etc")))
    assert app.run("sh", f"{TOOLS}/nginx.sh", "serve")[0] == 0

    def shown() -> str:
        return app.run("sh", f"{TOOLS}/nginx.sh", "ask")[1].decode().strip().rpartition("=")[2]

    assert shown() == GENERATIONS[0]
    node.rotate("db", **values(tools, GENERATIONS[1]))
    assert shown() == GENERATIONS[0]
    master = int(app.run("cat", "/tmp/nginx.pid")[1])
    app("attempt", "kill", master, signal.SIGHUP)
    wait_until(lambda: shown() == GENERATIONS[1], "nginx shows the rotated certificate")


def test_other_calls_give_what_the_table_says(node: Node) -> None:
    pod = node.pod()
    node.publish(pod, {"db": {"value": TEN_BYTES}}, AccessRule(From.ANY))
    app = pod.container()
    found = {}
    for call in CALLS:
        status, out, complaint = app.run(PYTHON, "-I", "-S", "-c", SCRIPT, "/secrets/value", call.expression)
        found[call.name] = out.decode().strip() if status == 0 else complaint
    assert found == {call.name: call.gives for call in CALLS}


def test_no_call_gives_a_refused_reader_a_byte(node: Node) -> None:
    pod = node.pod()
    node.publish(pod, {"db": {"value": TEN_BYTES}}, AccessRule(From.APP))
    shell = pod.exec(pod.container())
    for call in CALLS:
        _, out, _ = shell.run(PYTHON, "-I", "-S", "-c", SCRIPT, "/secrets/value", call.expression)
        assert b"0123" not in out, call.name
        if "read" in call.expression:
            assert out.strip() == b"E2BIG", call.name
