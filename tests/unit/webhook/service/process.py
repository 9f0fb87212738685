"""Real replicas over the fake API server, and clients that behave as the API server does."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.webhook.builders import OPTED_IN, body, pod
from tests.unit.webhook.cluster.scene import put_interceptor, put_namespace, put_node

LEASE = ("leases", "kernelsecret-system", "kernelsecret-webhook")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TLS = _trusting()


class Replica:
    """One process of the webhook."""

    def __init__(self, folder: Path, url: str, name: str, **settings: str) -> None:
        self.name = name
        self.port = _free_port()
        self.audit = folder / f"{name}.jsonl"
        self.log = folder / f"{name}.log"
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [{"name": "test", "cluster": {"server": url}}],
                    "users": [{"name": "test", "user": {}}],
                }
            )
        )
        given = {
            "kubeconfig": str(kubeconfig),
            "address": f"127.0.0.1:{self.port}",
            "nodes_address": f"127.0.0.1:{_free_port()}",
            "identity": name,
            "audit_log": str(self.audit),
            "drain_s": "1",
            **settings,
        }
        self._environment = {"PATH": os.environ["PATH"]} | {
            f"KERNELSECRET_WEBHOOK_{key.upper()}": value for key, value in given.items()
        }
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "webhook"]
            self.process = await asyncio.create_subprocess_exec(*command, env=self._environment, stderr=log)

    async def is_ready(self) -> bool:
        try:
            async with Connection(self) as connection:
                return (await connection.ask(b"GET", "/readyz"))[0] == 200
        except (OSError, asyncio.IncompleteReadError):
            return False

    async def until_ready(self, wanted: bool = True) -> None:
        async with asyncio.timeout(60):
            while await self.is_ready() is not wanted:
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


class Connection:
    """A keep-alive connection. `closing`: the server has said that it will not take another request."""

    def __init__(self, replica: Replica) -> None:
        self._port = replica.port
        self.replica = replica
        self.closing = False

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=TLS)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    async def ask(self, method: bytes, path: str, sent: bytes = b"") -> tuple[int, bytes]:
        head = f"{method.decode()} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
        self.closing = b"connection: close" in lines
        return int(lines[0].split()[1]), await self.reader.readexactly(length)


REVIEW = body(pod(tolerations=[{"operator": "Exists"}]))


async def review(connection: Connection) -> Any:
    """The response to a pod that asks."""
    status, answer = await connection.ask(b"POST", "/mutate", REVIEW)
    assert status == 200
    return json.loads(answer)["response"]


@asynccontextmanager
async def replicas(folder: Path, *names: str, **settings: str) -> AsyncIterator[tuple[FakeApiServer, list[Replica]]]:
    """Ready replicas of one cluster that has a node, a namespace that opted in and an interceptor."""
    fake = FakeApiServer()
    await put_node(fake, **{"kernelsecret.io/engine": "iter"})
    await put_namespace(fake, **OPTED_IN)
    await put_interceptor(fake)
    async with serving(fake) as url:
        made = [Replica(folder, url, name, **settings) for name in names]
        try:
            for one in made:
                await one.start()
            for one in made:
                await one.until_ready()
            yield fake, made
        finally:
            for one in made:
                if one.process.returncode is None:
                    one.process.kill()
                await one.process.wait()
