"""Tokens as kubelet brings them, judged by a real API server: the pod's own pass, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from agent.kube.token_claims import claimed
from agent.kube.token_review import TokenVerifier
from agent.model import PodRef
from apiclient.client import ApiClient
from apiclient.connection import Connection, from_kubeconfig
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ACCOUNT_AGENT, SYSTEM_NAMESPACE
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.nodes import agent_pod
from tests.apiserver.harness.objects import pod
from tests.apiserver.harness.processes import free_port
from tests.apiserver.harness.tokens import Claims, claims_in, signed, unsigned

SPACE, NODE, OTHER_NODE = "tokens", "tokens-1", "tokens-2"
PODS = {"api-0": ("api", NODE), "api-1": ("api", NODE), "far": ("api", OTHER_NODE), "web": ("web", NODE)}


@pytest.fixture(scope="module")
def scene(alone: Cluster) -> Iterator[Cluster]:
    """Two nodes, and pods of two accounts on them."""
    for name in (NODE, OTHER_NODE):
        alone.node(name)
    alone.namespace(SPACE)
    for account in ("api", "web"):
        alone.account(SPACE, account)
    for name, (account, node) in PODS.items():
        alone.core.create_namespaced_pod(SPACE, pod(name, serviceAccountName=account, nodeName=node))
    agents = agent_pod(alone, NODE)
    yield alone
    for name in PODS:
        alone.remove_pod(SPACE, name)
    alone.remove_pod(SYSTEM_NAMESPACE, agents)
    for name in (NODE, OTHER_NODE):
        alone.remove_node(name)


@pytest.fixture
async def verifier(scene: Cluster) -> AsyncIterator[TokenVerifier]:
    """As an agent has it: by its own account's rights."""
    file = scene.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_AGENT, file="tokens-agent.json", pod=f"agent-on-{NODE}")
    async with ApiClient(from_kubeconfig(file)) as client:
        yield TokenVerifier(client)


def ref(scene: Cluster, name: str = "api-0") -> PodRef:
    uid = scene.core.read_namespaced_pod(name, SPACE).metadata.uid
    return PodRef(SPACE, name, uid, PODS[name][0])


def token(scene: Cluster, name: str = "api-0", audience: str = "vault") -> str:
    return scene.token(SPACE, PODS[name][0], audience=audience, pod=name, seconds=600)


async def test_the_pods_own_tokens_pass_with_their_ends(scene: Cluster, verifier: TokenVerifier) -> None:
    tokens = {"": token(scene, audience=""), "vault": token(scene)}
    found = await verifier.verified(ref(scene), NODE, tokens)
    assert {audience: one.token for audience, one in found.items()} == tokens
    assert all(590 < one.ends_s - time.time() <= 601 for one in found.values())
    assert claimed(ref(scene), NODE, tokens, now_s=time.time()) == found


async def test_an_answer_costs_one_question(scene: Cluster, verifier: TokenVerifier) -> None:
    tokens = {"vault": token(scene)}
    began = time.perf_counter()
    await verifier.verified(ref(scene), NODE, tokens)
    asked = time.perf_counter()
    for _ in range(100):
        await verifier.verified(PodRef(SPACE, "api-0", ref_uid(tokens["vault"]), "api"), NODE, tokens)
    known = (time.perf_counter() - asked) / 100
    print(f"\nmeasured: TokenReview {1000 * (asked - began):.1f} ms, remembered {1e6 * known:.0f} us")  # noqa: T201
    assert known < (asked - began)


def ref_uid(made: str) -> str:
    uid: str = claims_in(made)["kubernetes.io"]["pod"]["uid"]
    return uid


async def refused(verifier: TokenVerifier, whose: PodRef, made: str, audience: str = "vault") -> Refused:
    with pytest.raises(Refused) as caught:
        await verifier.verified(whose, NODE, {audience: made})
    assert caught.value.code is Code.PERMISSION_DENIED
    assert not any(part in str(caught.value) for part in made.split(".") if part)
    return caught.value


def late(claims: Claims) -> None:
    claims["exp"] = int(time.time()) - 60


def changed(claims: Claims) -> None:
    claims["kubernetes.io"]["pod"] |= {"name": "api-1"}


def same(claims: Claims) -> None:
    pass


@pytest.mark.parametrize(("change", "forged"), [(late, False), (same, True), (changed, True)])
async def test_what_has_ended_or_is_signed_by_others_is_refused(
    scene: Cluster, verifier: TokenVerifier, change: Callable[[Claims], None], forged: bool
) -> None:
    own = token(scene)
    claims = claims_in(own)
    resigned = signed(scene, own, claims)
    await verifier.verified(ref(scene), NODE, {"vault": resigned})  # the harness signs as the API server does
    change(claims)
    found = await refused(verifier, ref(scene), signed(scene, own, claims, forged=forged))
    assert "does not accept the token" in found.why


async def test_no_signature_is_no_signature_and_another_payload_is_not_what_was_signed(
    scene: Cluster, verifier: TokenVerifier
) -> None:
    own, other = token(scene), token(scene, "api-1")
    mixed = ".".join((own.split(".")[0], other.split(".")[1], own.split(".")[2]))
    for made in (unsigned(claims_in(own)), mixed, own[:-4], "canary-of-no-token"):
        assert "does not accept the token" in (await refused(verifier, ref(scene), made)).why


@pytest.mark.parametrize(("whose", "field"), [("api-1", "pod.name"), ("web", "serviceAccount"), ("far", "pod.name")])
async def test_another_pods_token_is_refused_by_what_differs(
    scene: Cluster, verifier: TokenVerifier, whose: str, field: str
) -> None:
    made = token(scene, whose)
    assert (await refused(verifier, ref(scene), made)).field == f"serviceAccount.tokens['vault'].{field}"
    with pytest.raises(Refused, match=field.replace(".", r"\.")):
        claimed(ref(scene), NODE, {"vault": made}, now_s=time.time())


async def test_a_token_of_another_node_is_refused(scene: Cluster, verifier: TokenVerifier) -> None:
    found = await refused(verifier, ref(scene, "far"), token(scene, "far"))
    assert found.field == "serviceAccount.tokens['vault'].node.name"
    assert "'tokens-2' is not this node 'tokens-1'" in found.why


async def test_a_token_of_an_earlier_pod_of_that_name_is_refused(scene: Cluster, verifier: TokenVerifier) -> None:
    seen, unseen = token(scene, "api-1"), token(scene, "api-1", "other")
    await verifier.verified(ref(scene, "api-1"), NODE, {"vault": seen})
    scene.remove_pod(SPACE, "api-1")
    scene.core.create_namespaced_pod(SPACE, pod("api-1", serviceAccountName="api", nodeName=NODE))
    assert (await refused(verifier, ref(scene, "api-1"), seen)).field == "serviceAccount.tokens['vault'].pod.uid"
    # Where it has to be asked, the API server itself knows that the pod is gone.
    assert "does not accept the token" in (await refused(verifier, ref(scene, "api-1"), unseen, "other")).why


async def test_a_token_for_another_audience_is_refused_both_ways(scene: Cluster, verifier: TokenVerifier) -> None:
    for meant, shown in (("other", "vault"), ("", "vault"), ("vault", "")):
        await refused(verifier, ref(scene), token(scene, audience=meant), shown)


async def test_a_token_that_is_bound_to_no_pod_is_refused(scene: Cluster, verifier: TokenVerifier) -> None:
    free = scene.token(SPACE, "api", audience="vault", seconds=600)
    found = await refused(verifier, ref(scene), free)
    assert (found.field, "bound to none" in found.why) == ("serviceAccount.tokens['vault'].pod.name", True)


async def test_an_api_server_that_is_away_or_denies_the_question_refuses_nobody_for_good(scene: Cluster) -> None:
    nowhere = Connection(f"https://127.0.0.1:{free_port()}", ca_file=scene.certificates.authority, token="x")
    unbound = from_kubeconfig(scene.kubeconfig_of(SPACE, "web", file="tokens-web.json"))
    for connection in (nowhere, unbound):
        async with ApiClient(connection) as client:
            with pytest.raises(Refused) as caught:
                await TokenVerifier(client).verified(ref(scene), NODE, {"vault": token(scene)})
        assert caught.value.code is Code.UNAVAILABLE
        assert "cannot be verified" in caught.value.why
