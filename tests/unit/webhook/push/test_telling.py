from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.unit.webhook.push.scene import API, DB
from webhook.observe.records import Pushed, to_line
from webhook.push.nonces import Nonces
from webhook.push.outcomes import Outcome, PushRefused
from webhook.push.telling import MOST_KINDS, Teller


class Told:
    def __init__(self) -> None:
        self.records: list[Pushed] = []
        self.counted: Counter[str] = Counter()
        self.teller = Teller(self.records.append, self._count, wall_clock_ns=lambda: 7)

    def _count(self, outcome: str, _seconds: float | None) -> None:
        self.counted[outcome] += 1


async def test_the_first_of_a_kind_is_told_at_once_and_more_are_summed_up() -> None:
    told = Told()
    for number in range(1000):
        told.teller.tell(Outcome.UNKNOWN_SENDER, sender=f"stranger-{number}", address="10.0.0.1", why=f"why {number}")
    assert [one.times for one in told.records] == [1]
    told.teller.flush()
    assert [(one.times, one.why) for one in told.records] == [(1, "why 0"), (999, "why 999")]
    assert told.counted == {"unknown-sender": 1000}


async def test_pushes_of_different_secrets_are_told_one_by_one() -> None:
    told = Told()
    for secret in (DB, API, DB):
        told.teller.tell(Outcome.ACCEPTED, sender="ci", address="10.0.0.1", secrets=(secret,))
    told.teller.flush()
    assert [(one.secrets, one.times) for one in told.records] == [(str(DB), 1), (str(API), 1), (str(DB), 1)]


async def test_kinds_without_end_are_summed_up_too() -> None:
    told = Told()
    for number in range(10 * MOST_KINDS):
        told.teller.tell(Outcome.BAD_SIGNATURE, sender="ci", address=f"10.0.{number // 256}.{number % 256}")
    assert len(told.records) <= MOST_KINDS + 1
    told.teller.flush()
    assert sum(one.times for one in told.records) == 10 * MOST_KINDS


async def test_a_kind_that_does_not_come_again_is_forgotten() -> None:
    told = Told()
    told.teller.tell(Outcome.ACCEPTED, sender="ci", address="10.0.0.1")
    told.teller.flush()
    told.teller.flush()
    told.teller.tell(Outcome.ACCEPTED, sender="ci", address="10.0.0.1")
    assert [one.times for one in told.records] == [1, 1]
    told.teller.flush()


async def test_a_record_is_one_line_and_what_others_wrote_is_escaped() -> None:
    told = Told()
    why = "a\nb"
    told.teller.tell(Outcome.UNKNOWN_SENDER, sender="x\u202e", address="10.0.0.1", secrets=(DB,) * 10, why=why)
    line = to_line(told.records[0])
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert found["event"] == "push"
    assert (found["outcome"], found["sender"], found["times"]) == ("unknown-sender", "x\\u202e", 1)
    assert found["secrets"].endswith(" and 2 more")
    told.teller.flush()


def test_nonces_of_one_sender_do_not_push_out_those_of_another() -> None:
    nonces = Nonces(most=10)
    nonces.use("vault", "first")
    for number in range(100):
        nonces.use("ci", str(number))
    assert len(nonces) == 11
    with pytest.raises(PushRefused) as refused:
        nonces.require_new("vault", "first")
    assert refused.value.outcome is Outcome.REPLAYED
