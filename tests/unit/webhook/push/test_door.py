from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from kernelsecret.push import (
    HEADER_NONCE,
    HEADER_SENDER,
    HEADER_SIGNATURE,
    HEADER_TIME,
    MAX_PUSH,
    PATH_PUSH,
    SKEW_S,
    PushedSecret,
)
from tests.unit.webhook.push.scene import API, DB, KEY, NOW_NS, OTHER_KEY, Scene, body_of, pushing, refusal, signed
from tests.unit.webhook.server.asgi import Said, ask
from webhook.push.door import READING_OF_ONE
from webhook.push.recent import SPAN_NS


def assert_refused(scene: Scene, said: Said, status: int, outcome: str, field: str) -> dict[str, str]:
    found = refusal(said)
    assert (said.status, found["field"]) == (status, field)
    assert scene.one.outcomes == {outcome: 1}
    assert scene.one.records[-1].outcome == outcome
    assert scene.told() == []
    for shown in (str(said), str(scene.one.records)):
        assert "canary" not in shown
    return found


async def test_a_signed_push_is_written_where_agents_watch_before_it_is_answered() -> None:
    async with pushing() as scene:
        said = await scene.one.push(DB)
        assert scene.told() == ["vault:secret/data/payments/db"]
        assert (said.status, json.loads(said.body)) == (202, {"notices": 1})
        assert said.headers[b"cache-control"] == b"no-store"
        assert scene.one.outcomes == {"accepted": 1}
        [record] = scene.one.records
        assert (record.sender, record.address, record.secrets) == ("ci", "127.0.0.1", str(DB))
        assert "canary" not in str(scene.one.records) + str(scene.stored())


async def test_one_push_names_several_secrets_each_once() -> None:
    async with pushing() as scene:
        said = await scene.one.push(DB, API, DB)
        assert json.loads(said.body) == {"notices": 2}
        assert sorted(scene.told()) == [str(API), str(DB)]


async def test_an_unknown_sender_is_a_401_that_says_where_keys_are() -> None:
    async with pushing() as scene:
        found = assert_refused(scene, await scene.one.push(sender="who"), 401, "unknown-sender", HEADER_SENDER)
        assert "kernelsecret-push-keys" in found["fix"]


@pytest.mark.parametrize("sender", ["(none)", "", "CI", "../ci", "c i", "x" * 64])
async def test_what_can_be_no_senders_name_is_a_401(sender: str) -> None:
    async with pushing() as scene:
        body = body_of()
        said = await scene.one.send(body, signed(body, sender="ci") if sender == "ci" else _named(body, sender))
        assert_refused(scene, said, 401, "unknown-sender", HEADER_SENDER)


def _named(body: bytes, sender: str) -> list[tuple[bytes, bytes]]:
    headers = [one for one in signed(body) if one[0] != HEADER_SENDER.lower().encode()]
    return headers if sender == "(none)" else [*headers, (HEADER_SENDER.lower().encode(), sender.encode())]


@pytest.mark.parametrize("wrong", ["0" * 64, "(none)", "zz", "A" * 64])
async def test_a_bad_signature_is_a_401(wrong: str) -> None:
    async with pushing() as scene:
        assert_refused(scene, await scene.one.push(signature=wrong), 401, "bad-signature", HEADER_SIGNATURE)


async def test_a_push_by_anothers_key_is_a_401() -> None:
    async with pushing() as scene:
        said = await scene.one.push(key=OTHER_KEY)
        assert_refused(scene, said, 401, "bad-signature", HEADER_SIGNATURE)


@pytest.mark.parametrize("changed", [{"time": str(NOW_NS + 1)}, {"nonce": "another-nonce-0001"}, {"sender": "vault"}])
async def test_time_nonce_and_sender_are_signed(changed: dict[str, str]) -> None:
    async with pushing() as scene:
        body = body_of()
        headers = dict(signed(body))
        names = {"time": HEADER_TIME, "nonce": HEADER_NONCE, "sender": HEADER_SENDER}
        for name, value in changed.items():
            headers[names[name].lower().encode()] = value.encode()
        said = await scene.one.send(body, list(headers.items()))
        assert_refused(scene, said, 401, "bad-signature", HEADER_SIGNATURE)


async def test_the_body_is_signed() -> None:
    async with pushing() as scene:
        said = await scene.one.send(body_of(API), signed(body_of(DB)))
        assert_refused(scene, said, 401, "bad-signature", HEADER_SIGNATURE)


@pytest.mark.parametrize("away_s", [-SKEW_S - 1, SKEW_S + 1])
async def test_a_time_too_far_away_is_a_403_that_says_by_how_much(away_s: int) -> None:
    async with pushing() as scene:
        said = await scene.one.push(time=NOW_NS + away_s * 10**9)
        found = assert_refused(scene, said, 403, "skew", HEADER_TIME)
        assert "301 s" in found["why"]


@pytest.mark.parametrize("away_s", [-SKEW_S + 1, SKEW_S - 1])
async def test_clocks_may_differ_by_minutes(away_s: int) -> None:
    async with pushing() as scene:
        assert (await scene.one.push(time=NOW_NS + away_s * 10**9)).status == 202


async def test_a_used_nonce_is_a_409_also_with_a_newer_time() -> None:
    async with pushing() as scene:
        assert (await scene.one.push(nonce="n" * 16)).status == 202
        said = await scene.one.push(nonce="n" * 16, time=NOW_NS + 1)
        assert (said.status, refusal(said)["field"]) == (409, HEADER_NONCE)
        # A nonce is its sender's own.
        assert (await scene.one.push(nonce="n" * 16, sender="vault", key=OTHER_KEY)).status == 202


async def test_a_time_that_is_not_newer_is_a_409_for_that_sender_and_secret_only() -> None:
    async with pushing() as scene:
        for second in range(4):
            assert (await scene.one.push(DB, time=NOW_NS + second * SPAN_NS)).status == 202
        late = NOW_NS + 10**8
        said = await scene.one.push(API, DB, time=late)
        assert (said.status, refusal(said)["field"]) == (409, HEADER_TIME)
        assert str(DB) in refusal(said)["why"]
        assert scene.told() == [str(DB)]
        assert (await scene.one.push(API, time=late)).status == 202
        assert (await scene.one.push(DB, sender="vault", key=OTHER_KEY, time=late)).status == 202
        assert (await scene.one.push(DB, time=NOW_NS + 4 * SPAN_NS)).status == 202


async def test_a_secret_that_no_interceptor_names_is_a_404() -> None:
    async with pushing() as scene:
        said = await scene.one.push(DB, PushedSecret("vault", "secret/data/other"))
        found = assert_refused(scene, said, 404, "unknown-secret", "secrets[1]")
        assert "vault:secret/data/other" in found["why"]


async def test_before_interceptors_are_known_it_is_to_come_again() -> None:
    async with pushing() as scene:
        scene.named = None
        said = await scene.one.push()
        assert_refused(scene, said, 503, "unavailable", "webhook")
        assert said.headers[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"nonsense", "body"),
        (b"\xff", "body"),
        (b"[" * 30_000, "body"),
        (b"[]", "body"),
        (b"{}", "secrets"),
        (b'{"secrets": []}', "secrets"),
        (b'{"secrets": {}}', "secrets"),
        (b'{"secrets": [{"source": "vault"}]}', "secrets[0].path"),
        (b'{"secrets": [{"source": "vault", "path": 7}]}', "secrets[0].path"),
        (b'{"secrets": [{"source": "vault", "path": "a", "value": "x"}]}', "secrets[0].value"),
        (b'{"secrets": [{"source": "ldap", "path": "a"}]}', "secrets[0]"),
        (b'{"secrets": [{"source": "vault", "path": ""}]}', "secrets[0]"),
        (body_of(*(PushedSecret("vault", str(number)) for number in range(65))), "secrets"),
        (body_of(PushedSecret("vault", "x" * 1025)), "secrets[0]"),
    ],
)
async def test_what_is_no_push_is_a_400_that_names_the_field(body: bytes, field: str) -> None:
    async with pushing() as scene:
        assert_refused(scene, await scene.one.send(body, signed(body)), 400, "malformed", field)


@pytest.mark.parametrize(
    ("header", "value"),
    [("time", "1800000000"), ("time", "now"), ("time", "-800000000000000000"), ("nonce", "short"), ("nonce", "n" * 65)],
)
async def test_headers_that_cannot_be_are_a_400_before_anything_is_read(header: str, value: str) -> None:
    async with pushing() as scene:
        said = await scene.one.push(**{header: value})
        assert_refused(scene, said, 400, "malformed", {"time": HEADER_TIME, "nonce": HEADER_NONCE}[header])
        assert said.headers[b"connection"] == b"close"


async def test_a_body_that_is_said_to_be_too_large_is_a_413_and_not_read() -> None:
    async with pushing() as scene:
        received = 0

        async def receive() -> dict[str, object]:
            nonlocal received
            received += 1
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

        sent = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        body = b"x" * (10 << 20)
        headers = [*signed(body), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": "POST", "path": PATH_PUSH, "headers": headers, "query_string": b""}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8443), "scheme": "https", "root_path": ""}
        await scene.one.app(scope, receive, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 413
        assert received == 0


async def test_a_body_that_becomes_too_large_is_a_413_as_soon_as_it_is() -> None:
    async with pushing() as scene:
        body = b" " * (MAX_PUSH + 1)
        said = await ask(scene.one.app, PATH_PUSH, body[:-1], b" ", b" " * (10 << 20), headers=signed(body))
        assert_refused(scene, said, 413, "too-large", "body")
        assert said.headers[b"connection"] == b"close"


async def test_a_client_that_leaves_is_no_failure() -> None:
    async with pushing() as scene:
        body = body_of()
        assert (await scene.one.send(body, signed(body), leaves=True)).status == 400
        assert not scene.one.outcomes


async def test_who_pushes_too_often_is_a_429_with_the_time_to_wait() -> None:
    async with pushing(sender=(2, 0.5)) as scene:
        for number in range(2):
            assert (await scene.one.push(time=NOW_NS + number)).status == 202
        said = await scene.one.push(time=NOW_NS + 2)
        assert said.status == 429
        assert said.headers[b"retry-after"] == b"2"
        assert (await scene.one.push(sender="vault", key=OTHER_KEY)).status == 202
        scene.now_ns += 2 * 10**9
        assert (await scene.one.push(time=NOW_NS + 3)).status == 202


async def test_who_sends_pushes_of_a_sender_again_does_not_use_up_what_that_may() -> None:
    async with pushing(sender=(2, 0.001)) as scene:
        body = body_of()
        old, new = signed(body, time=NOW_NS - 301 * 10**9), signed(body)
        assert (await scene.one.send(body, new)).status == 202
        for _ in range(10):
            assert (await scene.one.send(body, old)).status == 403
            assert (await scene.one.send(body, new)).status == 409
        assert (await scene.one.push(time=NOW_NS + 1)).status == 202


async def test_strangers_do_not_use_up_what_a_sender_may() -> None:
    async with pushing(sender=(1, 0.001)) as scene:
        for _ in range(50):
            assert (await scene.one.push(signature="0" * 64)).status == 401
        assert (await scene.one.push()).status == 202


async def test_without_any_key_nobody_can_push() -> None:
    async with pushing(keys=False) as scene:
        assert_refused(scene, await scene.one.push(), 401, "unknown-sender", HEADER_SENDER)


async def test_a_key_that_can_be_guessed_is_refused_and_told() -> None:
    async with pushing() as scene:
        await scene.put_keys({"ci": KEY[:31], "vault": OTHER_KEY})
        said = await _until(scene, 401)
        assert refusal(said)["field"] == "Secret kernelsecret-push-keys[ci]"
        assert "31 bytes" in refusal(said)["why"]
        assert (await scene.one.push(sender="vault", key=OTHER_KEY)).status == 202


async def test_keys_are_followed_live() -> None:
    async with pushing(keys=False) as scene:
        await scene.put_keys({"ci": KEY})
        assert (await _until(scene, 202)).status == 202
        await scene.put_keys({"ci": OTHER_KEY})
        await _until(scene, 401)
        await scene.fake.remove("secrets", "kernelsecret-push-keys", "kernelsecret-system")
        assert refusal(await scene.one.push(time=NOW_NS + 10**8))["field"] in (HEADER_SENDER, HEADER_SIGNATURE)


async def _until(scene: Scene, status: int) -> Said:
    """Push until it is answered so: keys are followed by a watch."""
    async with asyncio.timeout(20):
        time = NOW_NS
        while True:
            time += 1
            said = await scene.one.push(time=time, key=KEY)
            if said.status == status:
                return said
            await asyncio.sleep(0)


async def test_an_error_of_our_own_is_told_in_general_words() -> None:
    async with pushing() as scene:

        def broken() -> None:
            raise ValueError("canary")

        scene.one.app.router.routes[-1].endpoint.__self__._parts.keys.of = lambda sender: broken()  # type: ignore[attr-defined]
        said = await scene.one.push()
        assert_refused(scene, said, 500, "failed", "request")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_pushes(method: str) -> None:
    async with pushing() as scene:
        assert (await ask(scene.one.app, PATH_PUSH, method=method)).status == 405


async def test_bodies_that_never_come_from_one_address_keep_nobody_else_out() -> None:
    async with pushing() as scene:
        heard, never = asyncio.Event(), asyncio.Event()
        answers: list[MutableMapping[str, Any]] = []

        async def nothing() -> dict[str, Any]:
            heard.set()
            await never.wait()
            return {"type": "http.disconnect"}

        async def note(message: MutableMapping[str, Any]) -> None:
            answers.append(message)

        def begin(address: str) -> asyncio.Task[None]:
            headers = [(b"content-length", b"9"), *signed(b"", signature="0" * 64)]
            scope = {"type": "http", "method": "POST", "path": PATH_PUSH, "headers": headers, "client": (address, 1)}
            return asyncio.ensure_future(scene.one.app(scope | {"query_string": b""}, nothing, note))

        slow = [begin("192.0.2.1") for _ in range(READING_OF_ONE)]
        await heard.wait()
        await begin("192.0.2.1")
        assert answers[0]["status"] == 429
        assert (await scene.one.push()).status == 202
        never.set()
        await asyncio.gather(*slow)
        assert (await scene.one.push(time=NOW_NS + 1)).status == 202
