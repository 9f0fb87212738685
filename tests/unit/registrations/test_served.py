from __future__ import annotations

import msgspec

from kernelsecret.node_api import MAX_SERVED, MOST_SERVED, PATH_SERVED, Served, ServedSecret
from tests.unit.registrations import scene
from tests.unit.registrations.scene import agent_door, said


async def test_the_webhook_is_told_how_the_secrets_of_a_node_do() -> None:
    async with agent_door() as agent:
        one = ServedSecret(interceptor="payments-db", secret="db", pods=2, up_to_date=1, failing=1, message="denied")
        agent.served.append(one)
        status, body = await agent.request(method="GET", path=PATH_SERVED)
        assert (status, msgspec.json.decode(body, type=Served)) == (200, Served(secrets=(one,)))


async def test_nobody_else_is_told() -> None:
    async with agent_door() as agent:
        node = scene.node_context(agent.issuer, "node-2")
        status, body = await agent.request(method="GET", path=PATH_SERVED, context=node)
        assert (status, said(body).field) == (403, "client certificate")


async def test_it_can_only_be_asked_for() -> None:
    async with agent_door() as agent:
        for method in ("PUT", "POST", "DELETE"):
            assert (await agent.request(method=method, path=PATH_SERVED))[0] == 405


async def test_the_answer_is_bounded() -> None:
    async with agent_door() as agent:
        agent.served += [
            ServedSecret(interceptor=f"i-{number}", secret="db", pods=1, up_to_date=1) for number in range(6000)
        ]
        _, body = await agent.request(method="GET", path=PATH_SERVED)
        assert len(msgspec.json.decode(body, type=Served).secrets) == MOST_SERVED
        assert len(body) < MAX_SERVED


async def test_who_cannot_say_how_they_do_says_so_and_not_more() -> None:
    async with agent_door() as agent:
        agent.served.append("canary")  # type: ignore[arg-type]
        object.__setattr__(agent.door._events, "served", lambda: 1 / 0)
        status, body = await agent.request(method="GET", path=PATH_SERVED)
        assert (status, said(body).code) == (500, "INTERNAL")
        assert b"canary" not in body
