from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

from tests.unit.apiclient.things import until
from tests.unit.webhook.service.process import LEASE, Connection, Replica, replicas, review


class Clients:
    """Clients that use whichever replica is ready, as a Service lets them: known a little late, and over connections
    that they keep until they are told that these end.
    """

    def __init__(self, made: list[Replica]) -> None:
        self._made = made
        self._ready = list(made)
        self._tasks: list[asyncio.Task[None]] = []
        self.answered = 0
        self.failed: list[str] = []

    async def __aenter__(self) -> Clients:
        self._tasks = [asyncio.create_task(self._look())]
        self._tasks += [asyncio.create_task(self._ask(number)) for number in range(8)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answers(self, more: int) -> None:
        """Until so many more reviews were answered."""
        wanted = self.answered + more
        await until(lambda: self.answered >= wanted or bool(self.failed))

    async def _look(self) -> None:
        while True:
            found = [one for one in self._made if await one.is_ready()]
            self._ready = found or self._ready
            await asyncio.sleep(0.1)

    async def _ask(self, number: int) -> None:
        while True:
            replica = self._ready[number % len(self._ready)]
            try:
                async with Connection(replica) as connection:
                    while not connection.closing:
                        said = await review(connection)
                        assert said["allowed"], said
                        self.answered += 1
            except Exception as error:  # noqa: BLE001 - whatever it was, a pod was not admitted
                self.failed.append(f"{replica.name}: {error!r}")


async def test_no_review_is_lost_when_a_replica_is_told_to_end_under_load(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as (fake, (first, second)), Clients([first, second]) as clients:
        await clients.answers(200)
        leader = fake.objects[LEASE]["spec"]["holderIdentity"]
        ending = first if leader == "a" else second
        ending.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(ending.process.wait(), 20)
        assert ending.process.returncode == 0
        await clients.answers(200)
        assert clients.failed == []
        # The lease was given back, not left to run out.
        await until(lambda: fake.objects[LEASE]["spec"]["holderIdentity"] not in ("", None, leader))
        assert ending.records()
        assert '"event":"webhook stopped"' in ending.log.read_text()


async def test_while_it_drains_it_is_not_ready_and_answers_all_the_same(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", drain_s="2") as (_, (replica,)), Connection(replica) as connection:
        assert (await review(connection))["allowed"]
        replica.process.send_signal(signal.SIGTERM)
        await replica.until_ready(False)
        assert (await review(connection))["allowed"]
        assert connection.closing
        async with Connection(replica) as late:
            status, answer = await late.ask(b"GET", "/readyz")
            assert status == 503
            assert b'"draining"' in answer
        assert await asyncio.wait_for(replica.process.wait(), 10) == 0


async def test_the_process_is_closed_to_others_and_does_without_what_it_does_not_need(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a") as (_, (replica,)):
        proc = Path(f"/proc/{replica.process.pid}")
        status = (proc / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Umask:\t0077" in status
        # A process that is not dumpable belongs to root, whoever runs it.
        assert (proc / "maps").stat().st_uid == 0
        assert "Max core file size        0                    0" in (proc / "limits").read_text()
        async with Connection(replica) as connection:
            _, metrics = await connection.ask(b"GET", "/metrics")
        assert b"kernelsecret_webhook_ready 1.0" in metrics
        assert b"kernelsecret_webhook_log_fields_dropped_total 0.0" in metrics


async def test_a_port_that_is_taken_ends_it_with_the_setting_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        replica = Replica(tmp_path, "http://127.0.0.1:1", "b", address=address)
        await replica.start()
        assert await asyncio.wait_for(replica.process.wait(), 60) == 1
        assert "webhook: KERNELSECRET_WEBHOOK_ADDRESS:" in replica.log.read_text()
