from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelsecret.node_api import PATH_REGISTRATIONS
from kernelsecret.registration import SignedRegistration
from tests.unit.registrations import scene
from tests.unit.registrations.scene import agent_door, said

BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=12,
    ).map(msgspec.json.encode),
    st.fixed_dictionaries(
        {"keyId": st.text(max_size=20), "payload": st.text(max_size=40), "signature": st.text(max_size=100)},
        optional={"version": st.integers()},
    ).map(msgspec.json.encode),
)
PATHS = st.text(st.characters(codec="utf-8", exclude_characters="?#"), max_size=40)


@contextmanager
def standing() -> Iterator[tuple[asyncio.Runner, scene.AgentDoor]]:
    """One door for all examples of a test."""
    with asyncio.Runner() as runner:
        context = agent_door()
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


def test_nothing_that_is_sent_makes_a_500() -> None:
    with standing() as (runner, agent):
        context = scene.webhook_context(agent.issuer)

        @settings(max_examples=200)
        @given(
            method=st.sampled_from(["GET", "PUT", "PUT", "POST", "PATCH"]),
            path=PATHS,
            body=BODIES,
            content_type=st.sampled_from(["application/json", "x"]),
        )
        def send(method: str, path: str, body: bytes, content_type: str) -> None:
            at = f"{PATH_REGISTRATIONS}/{path}"
            sent = agent.request(body, method=method, path=at, context=context, content_type=content_type)
            status, answer = runner.run(sent)
            assert 400 <= status < 500
            assert said(answer).why

        send()
        assert len(agent.book) == 0


def test_a_signed_registration_with_one_byte_changed_is_never_taken() -> None:
    with standing() as (runner, agent):
        context = scene.webhook_context(agent.issuer)
        signed = agent.sign()

        @settings(max_examples=150)
        @given(where=st.integers(0, 10_000), what=st.integers(1, 255))
        def change(where: int, what: int) -> None:
            raw = bytearray(msgspec.json.encode(signed))
            raw[where % len(raw)] ^= what
            status, answer = runner.run(agent.request(bytes(raw), context=context))
            if status in (204, 409):
                # A byte that means nothing: another spelling of what was signed.
                assert msgspec.json.decode(bytes(raw), type=SignedRegistration) == signed
            else:
                assert 400 <= status < 500
                assert said(answer).why

        change()
