from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from kernelsecret.push import MAX_SECRET_PATH, SKEW_S, Board, PushedSecret
from tests.unit.webhook.push.scene import DB, NOW_NS
from webhook.push.board import (
    MOST_BYTES,
    MOST_NOTICES,
    Times,
    Told,
    body_of,
    emptied,
    first,
    merged,
    read_stored,
)

SKEW_NS = SKEW_S * 10**9


def secret(number: int, letters: int = 0) -> PushedSecret:
    return PushedSecret("vault", f"{number:05}".ljust(letters, "x"))


def told(*numbers: int, sender: str = "ci", time_ns: int = NOW_NS) -> Told:
    return Told(sender, time_ns, tuple(map(secret, numbers)))


def paths(board: Board) -> list[str]:
    return [one.path for one in board.notices]


def test_each_telling_is_another_revision_also_when_the_clock_stands_still() -> None:
    board = merged(Board(), [told(1)], NOW_NS)
    again = merged(board, [told(1, time_ns=NOW_NS + 1)], NOW_NS)
    assert again.notices[0].revision > board.notices[0].revision
    assert len(again.notices) == 1


def test_what_was_told_last_is_last() -> None:
    board = merged(merged(Board(), [told(1), told(2)], NOW_NS), [told(1, time_ns=NOW_NS + 1)], NOW_NS)
    assert paths(board) == ["00002", "00001"]


def test_a_notice_goes_once_its_time_is_refused_for_its_age_alone() -> None:
    board = merged(Board(), [told(1)], NOW_NS)
    assert paths(merged(board, [told(2, time_ns=NOW_NS + SKEW_NS)], NOW_NS + SKEW_NS)) == ["00001", "00002"]
    later = NOW_NS + SKEW_NS + 1
    assert paths(merged(board, [told(2, time_ns=later)], later)) == ["00002"]


def test_of_what_makes_room_nothing_older_is_taken_again() -> None:
    board = Board()
    for number in range(MOST_NOTICES + 10):
        board = merged(board, [told(number, time_ns=NOW_NS + number)], NOW_NS)
    assert len(board.notices) == MOST_NOTICES
    assert board.floors == {"ci": NOW_NS + 9}
    times = Times(board)
    for number in range(MOST_NOTICES + 10):
        assert times.stale(told(number, time_ns=NOW_NS + number)) is not None
    assert times.stale(told(3, time_ns=NOW_NS + MOST_NOTICES + 10)) is None
    assert times.stale(told(3, sender="vault")) is None


def test_floors_go_when_their_time_is_refused_for_its_age() -> None:
    board = Board(floors={"ci": NOW_NS})
    later = NOW_NS + SKEW_NS + 1
    assert merged(board, [told(1, time_ns=later)], later).floors == {}


def test_long_paths_and_many_senders_leave_it_within_what_a_config_map_holds() -> None:
    board = Board()
    for number in range(40):
        secrets = tuple(secret(64 * number + one, MAX_SECRET_PATH) for one in range(64))
        board = merged(board, [Told(f"sender-{number}", NOW_NS + number, secrets)], NOW_NS)
        assert len(msgspec.json.encode(board)) <= MOST_BYTES
        assert paths(board)[-64:] == [one.path for one in secrets]


def test_a_stored_config_map_is_read_back() -> None:
    board = merged(Board(), [told(1)], NOW_NS)
    stored = first("kernelsecret-system")._replace(board=board, data={"other": "kept"})
    found = read_stored(body_of(stored))
    assert found is not None
    assert found.board == board
    assert found.data["other"] == "kept"
    assert not found.is_new


@pytest.mark.parametrize("text", ["", "[]", '{"notices": 3}', '{"notices": [{"source": "vault"}]}', "[" * 100_000])
def test_a_damaged_board_is_none_and_can_be_emptied(text: str) -> None:
    raw = msgspec.json.encode({"metadata": {"name": "x"}, "data": {"notices.json": text}})
    assert read_stored(raw) is None
    assert emptied(raw).board == Board()


@given(
    some.lists(
        some.tuples(some.sampled_from(["ci", "vault"]), some.integers(0, 5), some.integers(1, 50)),
        max_size=40,
    )
)
def test_nothing_that_was_accepted_is_ever_taken_again(pushes: list[tuple[str, int, int]]) -> None:
    board, accepted = Board(), list[Told]()
    for sender, number, time in pushes:
        push = told(number, sender=sender, time_ns=NOW_NS + time)
        if Times(board).stale(push) is None:
            assert push not in accepted
            board = merged(board, [push], NOW_NS)
            accepted.append(push)
        for before in accepted:
            assert Times(board).stale(before) is not None


def test_a_secret_is_told_of_by_several_senders() -> None:
    board = merged(Board(), [Told("ci", NOW_NS, (DB,)), Told("vault", NOW_NS + 5, (DB,))], NOW_NS)
    assert board.notices[0].told == {"ci": NOW_NS, "vault": NOW_NS + 5}
