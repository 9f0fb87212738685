"""Real handshakes on loopback while certificates and authorities change under them.

`ssl` judges certificates by the machine's clock, so the keepers' clock begins half an authority's life before it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web

from certs.authority import Authority, create_authority
from certs.leaf import issue_node_leaf, node_csr
from certs.rotation import Policy
from certs.tls import client_context, load_pair, trust
from kernelsecret.names import HOST_WEBHOOK
from tests.unit.apiclient.things import until
from tests.unit.webhook.keeping.cluster import Caller, Cluster, Greeter, cluster, settled
from webhook.keeping.keeper import Keeper
from webhook.keeping.leading import Leading
from webhook.server.tls import LiveTls

NODE = "node-1.nodes.kernelsecret.io"
HOUR = timedelta(hours=1)
POLICY = Policy(hosts=(HOST_WEBHOOK, "127.0.0.1"), overlap=HOUR, node_leaf_lifetime=4 * HOUR)


class Webhook:
    """A replica that serves both ports; its next authority has just been published."""

    def __init__(self, world: Cluster, keeper: Keeper, term: Leading, admission: Greeter, nodes: Greeter) -> None:
        self.world, self.keeper, self._term = world, keeper, term
        self.admission, self.nodes = admission.port, nodes.port

    @property
    def bundle(self) -> str:
        """What is published."""
        [bundle] = self.world.bundles()
        return bundle

    def node(self) -> ssl.SSLContext:
        """A client with a certificate of node-1 by the current authority."""
        key, leaf = self.node_leaf(self.keeper.current().authority)
        return client_context(self.bundle, leaf, key)

    def node_leaf(self, authority: Authority) -> tuple[str, str]:
        """Key and certificate. It lasts longer than nodes get them, so that it is the authority that ends first."""
        key, request = node_csr("node-1")
        return key, issue_node_leaf(authority, request, "node-1", self.world.now, 99 * HOUR)

    async def later(self, wait: timedelta) -> None:
        """So much later, all that is due has been done, and loaded."""
        self.world.now += wait
        await settled(self._term)
        await until(lambda: self.world.is_at_rest(self.keeper))

    async def use_the_next(self) -> None:
        """The next authority is the current one now."""
        await self.later(POLICY.overlap)

    async def drop_the_former(self) -> None:
        """The former authority is trusted no more."""
        await self.later(POLICY.overlap + POLICY.node_leaf_lifetime)


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    admission, nodes = LiveTls(asks_peer=False), LiveTls(asks_peer=True)
    async with (
        cluster(policy=POLICY) as world,
        Greeter(admission.listener) as at_admission,
        Greeter(nodes.listener) as at_nodes,
    ):
        whole = 2 * POLICY.overlap + POLICY.node_leaf_lifetime
        world.now -= POLICY.authority_lifetime / 2 + whole
        await world.configurations("pods.kernelsecret.io")
        keeper = await world.keeper()
        keeper.on_change(lambda: admission.use(keeper.server_context()))
        keeper.on_change(lambda: nodes.use(keeper.node_context()))
        made = Webhook(world, keeper, await world.term(), at_admission, at_nodes)
        await made.later(timedelta(0))
        await made.later(POLICY.authority_lifetime / 2)
        assert len(keeper.current().authorities) == 2
        yield made


async def test_an_api_server_that_read_the_bundle_at_any_time_within_the_overlap_goes_on_connecting() -> None:
    async with webhook() as world:
        while_old = world.bundle
        await (await Caller.to(world.admission, client_context(while_old))).close()
        await world.use_the_next()
        await (await Caller.to(world.admission, client_context(while_old))).close()
        await (await Caller.to(world.admission, client_context(world.bundle))).close()
        await world.drop_the_former()
        assert world.bundle in while_old
        await (await Caller.to(world.admission, client_context(while_old))).close()
        await (await Caller.to(world.admission, client_context(world.bundle))).close()


async def test_a_new_connection_meets_the_new_certificate_and_the_old_one_lives_on() -> None:
    async with webhook() as world:
        context = client_context(world.bundle)
        old = await Caller.to(world.admission, context)
        before = world.keeper.current().leaf
        await world.use_the_next()
        new = await Caller.to(world.admission, context)
        assert old.certificate == ssl.PEM_cert_to_DER_cert(before.certificate_pem)
        assert new.certificate == ssl.PEM_cert_to_DER_cert(world.keeper.current().leaf.certificate_pem)
        assert new.certificate != old.certificate
        assert await old.echo("still here") == "still here"
        await old.close()
        await new.close()


async def test_the_admission_port_asks_for_no_certificate_and_the_nodes_port_takes_or_leaves_it() -> None:
    async with webhook() as world:
        for port, context, name in (
            (world.admission, world.node(), ""),
            (world.nodes, client_context(world.bundle), ""),
            (world.nodes, world.node(), NODE),
        ):
            caller = await Caller.to(port, context)
            assert caller.name == name
            await caller.close()


async def test_a_client_that_names_no_host_meets_the_newest_certificate_too() -> None:
    async with webhook() as world:
        await world.use_the_next()
        context = world.node()
        context.check_hostname = False
        caller = await Caller.to(world.nodes, context, host="")
        assert caller.name == NODE
        assert caller.certificate == ssl.PEM_cert_to_DER_cert(world.keeper.current().leaf.certificate_pem)
        await caller.close()


async def test_a_certificate_of_nobody_we_know_is_refused() -> None:
    async with webhook() as world:
        foreign = create_authority(world.world.now, POLICY.authority_lifetime)
        key, leaf = world.node_leaf(foreign)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Caller.to(world.nodes, client_context(world.bundle, leaf, key))


async def test_a_node_is_believed_until_its_authority_is_dropped_and_not_after() -> None:
    async with webhook() as world:
        node = world.node()
        await world.use_the_next()
        held = await Caller.to(world.nodes, node)
        assert held.name == NODE
        await world.drop_the_former()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Caller.to(world.nodes, node)
        assert await held.echo("a connection keeps what it began with") == "a connection keeps what it began with"
        await held.close()
        renewed = await Caller.to(world.nodes, world.node())
        assert renewed.name == NODE
        await renewed.close()


async def test_no_session_can_be_resumed_past_its_authority() -> None:
    async with webhook() as world:
        caller = await Caller.to(world.nodes, world.node())
        assert await caller.echo("after the handshake, when tickets would have come") != ""
        assert not caller.has_ticket
        await caller.close()


async def test_agents_cannot_come_by_a_version_of_tls_that_resumes_without_a_ticket() -> None:
    async with webhook() as world:
        old = world.node()
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Caller.to(world.nodes, old)
        await (await Caller.to(world.admission, old)).close()


async def test_the_webhook_calls_an_agent_by_its_nodes_name_and_shows_its_newest_certificate() -> None:
    async with webhook() as world, agent(world) as url, aiohttp.ClientSession() as session:
        keeper, shown = world.keeper, []
        for step in (None, None, world.use_the_next, world.drop_the_former):
            if step is not None:
                await step()
            async with session.get(url, ssl=keeper.client_context(), server_hostname=NODE) as answer:
                shown.append(await answer.text())
            assert shown[-1] == keeper.current().leaf.certificate_pem
        assert shown[0] == shown[1] != shown[2]
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(url, ssl=keeper.client_context(), server_hostname="node-2.nodes.kernelsecret.io")


@asynccontextmanager
async def agent(world: Webhook) -> AsyncIterator[str]:
    """The agent of node-1 for the webhook alone, as a real HTTP server; answers the certificate that it was shown."""

    async def show(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown = request.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return web.Response(text=ssl.DER_cert_to_PEM_cert(shown))

    # By the authority that will be there to the end, so that the agent need not change during the test.
    key, leaf = world.node_leaf(world.keeper.current().authorities[1].item)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    trust(context, world.bundle)
    load_pair(context, leaf, key)
    application = web.Application()
    application.router.add_get("/", show)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
