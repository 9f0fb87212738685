"""One lease at Vault: what each answer to its renewal, its revocation and a look at it means."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from agent.sources.vault.answers import Answer, Lease, TokenFacts
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.lease_book import Do, Held, LeaseBook
from agent.sources.vault.lease_door import renewed, revoked
from agent.vault_ref import Identity
from kernelsecret.interceptor import VaultMethod

WHO = Identity(VaultMethod.KUBERNETES, "kubernetes", "payments", "payments/app", "vault")
NOW = 100.0
LOOKUP, RENEW, REVOKE = "lookup", "renew", "revoke"


class Door:
    """Gives what it is told to, seconds or the kind of an error, and remembers what it was asked."""

    def __init__(self, **answers: float | Kind) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    def _given(self, operation: str, increment_s: int = 0) -> float:
        self.asked.append((operation, increment_s))
        answer = self.answers[operation]
        if isinstance(answer, Kind):
            raise VaultError(answer, operation, "as it was told")
        return answer

    async def read(
        self,
        identity: Identity,
        path: str,
        *,
        parameters: Mapping[str, str] = {},
        query: Mapping[str, str] = {},
        once: bool = False,
    ) -> Answer:
        return Answer(path, msgspec.json.encode({"ttl": self._given(LOOKUP)}))

    async def renew_lease(self, identity: Identity, lease_id: str, increment_s: int) -> Lease:
        return Lease(lease_id, int(self._given(RENEW, increment_s)), True)

    async def revoke_lease(self, identity: Identity, lease_id: str) -> None:
        self._given(REVOKE)

    def token_facts(self, identity: Identity) -> TokenFacts | None:
        return None


def held(*, ttl: float = 60.0, renewable: bool = True) -> Held:
    return Held("lease", "creds/1", "token", NOW - 40, NOW - 40, NOW + 20, ttl, renewable, {"password": b"p"})


async def renewal(lease: Held, **answers: float | Kind) -> tuple[bool, Door]:
    book, door = LeaseBook(), Door(**answers)
    book.minted(lease)
    return await renewed(door, WHO, book, lease, lambda: NOW), door


async def test_a_renewed_lease_lives_from_the_moment_of_the_question() -> None:
    lease = held()
    done, door = await renewal(lease, renew=60)
    assert (done, lease.ends_s, lease.renewable) == (True, NOW + 60, True)
    assert door.asked == [(RENEW, 60)]


async def test_a_lease_of_less_than_a_second_asks_for_one() -> None:
    """None, in Vault's words, is as long as the mount's default."""
    _, door = await renewal(held(ttl=0.5), renew=1)
    assert door.asked == [(RENEW, 1)]


@pytest.mark.parametrize(
    ("lookup", "ends_s"),
    [(10, NOW + 10), (3600, NOW + 20), (0, NOW), (Kind.BAD_REQUEST, NOW), (Kind.NOT_FOUND, NOW), (Kind.DENIED, NOW)],
)
async def test_a_renewal_that_vault_refuses_leaves_what_a_look_at_the_lease_tells(
    lookup: float | Kind, ends_s: float
) -> None:
    lease = held()
    done, door = await renewal(lease, renew=Kind.BAD_REQUEST, lookup=lookup)
    assert (done, lease.ends_s, lease.renewable) == (False, ends_s, False)
    assert [operation for operation, _ in door.asked] == [RENEW, LOOKUP]


async def test_who_may_not_renew_keeps_the_lease_to_its_end_and_does_not_ask_again() -> None:
    lease = held()
    done, door = await renewal(lease, renew=Kind.DENIED)
    assert (done, lease.ends_s, lease.renewable) == (False, NOW + 20, False)
    assert door.asked == [(RENEW, 60)]


@pytest.mark.parametrize("answers", [{"renew": Kind.TIMEOUT}, {"renew": Kind.BAD_REQUEST, "lookup": Kind.UNAVAILABLE}])
async def test_a_renewal_without_an_answer_may_be_had_another_time(answers: dict[str, float | Kind]) -> None:
    lease = held()
    with pytest.raises(VaultError):
        await renewal(lease, **answers)
    assert (lease.ends_s, lease.renewable) == (NOW + 20, True)


@pytest.mark.parametrize(
    ("answers", "ended"),
    [
        ({"revoke": 0}, True),
        ({"revoke": Kind.BAD_REQUEST}, True),
        ({"revoke": Kind.DENIED, "renew": 1}, True),
        ({"revoke": Kind.DENIED, "renew": Kind.BAD_REQUEST}, True),
        ({"revoke": Kind.DENIED, "renew": Kind.DENIED}, False),
        ({"revoke": Kind.DENIED, "renew": 60}, False),
    ],
)
async def test_a_lease_has_ended_when_it_is_revoked_gone_or_cut_short(
    answers: dict[str, float | Kind], ended: bool
) -> None:
    assert await revoked(Door(**answers), WHO, held()) is ended


async def test_what_cannot_be_renewed_cannot_be_cut_short() -> None:
    door = Door(revoke=Kind.DENIED)
    assert not await revoked(door, WHO, held(renewable=False))
    assert door.asked == [(REVOKE, 0)]


@pytest.mark.parametrize("answers", [{"revoke": Kind.TIMEOUT}, {"revoke": Kind.DENIED, "renew": Kind.UNAVAILABLE}])
async def test_a_revocation_without_an_answer_may_be_had_another_time(answers: dict[str, float | Kind]) -> None:
    with pytest.raises(VaultError):
        await revoked(Door(**answers), WHO, held())


# What the book says of such leases


def steps(book: LeaseBook, lease: Held, now: float = NOW) -> list[tuple[Do, float]]:
    return [(step.do, step.at_s) for step in book._steps(lease, now)]


def old_and_new() -> tuple[LeaseBook, Held]:
    book, old = LeaseBook(), held()
    book.minted(old)
    book.minted(held())
    return book, old


async def test_what_cannot_be_revoked_is_left_to_run_out_and_let_go_where_nobody_wants_it() -> None:
    book, old = old_and_new()
    old.is_stuck = True
    assert steps(book, old) == [(Do.FORGET, old.last_s)]
    book.wanted = False
    assert steps(book, old) == [(Do.FORGET, NOW)]


async def test_no_lease_is_renewed_beyond_the_end_of_its_token() -> None:
    book, old = old_and_new()
    assert Do.RENEW in [do for do, _ in steps(book, old, NOW - 30)]
    old.token_ends_s = old.renew_s - 1
    assert Do.RENEW not in [do for do, _ in steps(book, old, NOW - 30)]


@pytest.mark.parametrize(("first_s", "second_s"), [(5, 500), (500, 5), (500, 0)])
async def test_what_becomes_of_a_later_token_is_no_concern_of_a_lease(first_s: float, second_s: float) -> None:
    book, old = old_and_new()
    for name, left_s in (("second", first_s), ("third", second_s)):
        book.token_replaced(name, NOW + left_s)
    assert old.token_ends_s == NOW + first_s


async def test_a_lease_that_was_found_dead_died_when_it_had_to() -> None:
    book, old = old_and_new()
    book.died(old, NOW + 500)
    assert (old.ends_s, old.renewable) == (NOW + 20, False)
