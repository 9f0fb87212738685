from __future__ import annotations

from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from kernelsecret.push import MAX_SECRET_PATH, SKEW_S, Board, PushedSecret
from tests.unit.webhook.push.scene import DB, NOW_NS
from webhook.push import recent
from webhook.push.board import (
    KEPT_NS,
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
from webhook.push.recent import SPAN_NS


def secret(number: int, letters: int = 0) -> PushedSecret:
    return PushedSecret("vault", f"{number:05}".ljust(letters, "x"))


def told(*numbers: int, sender: str = "ci", time_ns: int = NOW_NS, nonce: str = "") -> Told:
    return Told(sender, time_ns, nonce or f"{sender}-{time_ns}-{numbers}", tuple(map(secret, numbers)))


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
    assert paths(merged(board, [told(2, time_ns=NOW_NS + KEPT_NS)], NOW_NS + KEPT_NS)) == ["00001", "00002"]
    later = NOW_NS + KEPT_NS + 1
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
    assert times.stale(told(3, time_ns=NOW_NS + 9, nonce="another")) is not None
    assert times.stale(told(3, time_ns=NOW_NS + MOST_NOTICES + 10)) is None
    assert times.stale(told(3, sender="vault")) is None


def test_floors_go_when_their_time_is_refused_for_its_age() -> None:
    board = Board(floors={"ci": NOW_NS})
    later = NOW_NS + KEPT_NS + 1
    assert merged(board, [told(1, time_ns=later)], later).floors == {}


def test_long_paths_and_many_senders_leave_it_within_what_a_config_map_holds() -> None:
    board = Board()
    for number in range(40):
        secrets = tuple(secret(64 * number + one, MAX_SECRET_PATH) for one in range(64))
        board = merged(board, [Told(f"sender-{number}", NOW_NS + number, "nonce", secrets)], NOW_NS)
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


# Seconds apart, so that parts of the recent ones are given up; some at one time, some late.
PUSHES = some.lists(
    some.tuples(some.sampled_from(["ci", "vault"]), some.integers(0, 3), some.integers(0, 24)), max_size=60
)


@given(PUSHES, some.sampled_from([1, 2, 4096]))
def test_nothing_that_was_taken_is_ever_taken_again(pushes: list[tuple[str, int, int]], most: int) -> None:
    board, accepted = Board(), list[Told]()
    with patch.object(recent, "MOST", most):
        for index, (sender, number, quarters) in enumerate(pushes):
            push = told(number, sender=sender, time_ns=NOW_NS + quarters * SPAN_NS // 4, nonce=f"n-{index}")
            if Times(board).stale(push) is None:
                board = merged(board, [push], NOW_NS)
                accepted.append(push)
            assert all(Times(board).stale(before) for before in accepted)


@given(PUSHES)
def test_what_is_newer_than_all_of_its_sender_is_always_taken(pushes: list[tuple[str, int, int]]) -> None:
    board, newest = Board(), 0
    for index, (sender, number, quarters) in enumerate(pushes):
        push = told(number, sender=sender, time_ns=NOW_NS + quarters * SPAN_NS // 4, nonce=f"n-{index}")
        if push.time_ns > newest:
            assert Times(board).stale(push) is None
            newest = push.time_ns
        if Times(board).stale(push) is None:
            board = merged(board, [push], NOW_NS)


def test_a_push_that_was_overtaken_by_a_little_is_taken_once() -> None:
    board = merged(Board(), [told(1, time_ns=NOW_NS + 900_000_000)], NOW_NS)
    late = told(1, time_ns=NOW_NS)
    assert Times(board).stale(late) is None
    board = merged(board, [late], NOW_NS)
    assert board.notices[0].told == {"ci": NOW_NS + 900_000_000}
    assert Times(board).stale(late) is not None


def test_a_push_that_is_seconds_late_is_not() -> None:
    board = Board()
    for second in range(4):
        board = merged(board, [told(1, time_ns=NOW_NS + second * SPAN_NS)], NOW_NS)
    assert Times(board).stale(told(1, time_ns=NOW_NS + 10**8, nonce="late")) is not None
    # But of a secret that nothing was told of it is news.
    assert Times(board).stale(told(2, time_ns=NOW_NS + 10**8, nonce="late")) is None


def test_after_a_while_the_nonces_of_a_sender_need_no_room() -> None:
    board = merged(Board(), [told(1, time_ns=NOW_NS + number) for number in range(500)], NOW_NS)
    assert len(board.recent["ci"].young) == 2000
    later = NOW_NS + 31 * 10**9
    board = merged(board, [told(2, sender="vault", time_ns=later)], later)
    assert board.recent["ci"].young == b""
    assert all(Times(board).stale(told(1, time_ns=NOW_NS + number)) for number in range(500))
    assert Times(board).stale(told(1, time_ns=NOW_NS + 500)) is None


def test_a_secret_is_told_of_by_several_senders() -> None:
    board = merged(Board(), [Told("ci", NOW_NS, "a", (DB,)), Told("vault", NOW_NS + 5, "b", (DB,))], NOW_NS)
    assert board.notices[0].told == {"ci": NOW_NS, "vault": NOW_NS + 5}


@given(
    some.lists(
        some.tuples(
            some.integers(0, 200),
            some.integers(-SKEW_S, SKEW_S),
            some.integers(0, 3),
            some.sampled_from(["ci", "vault"]),
        ),
        max_size=40,
    )
)
def test_what_was_taken_is_never_taken_again_however_the_clocks_of_a_sender_differ(
    pushes: list[tuple[int, int, int, str]],
) -> None:
    board, now_ns, before = Board(), NOW_NS, list[Told]()
    with patch.object(recent, "MOST", 3):
        for number, (passed_s, away_s, which, sender) in enumerate(pushes):
            now_ns += passed_s * 10**9
            before = [one for one in before if abs(one.time_ns - now_ns) <= SKEW_S * 10**9]
            assert all(Times(board).stale(one) for one in before)
            push = told(which, sender=sender, time_ns=now_ns + away_s * 10**9, nonce=f"nonce {number}")
            if Times(board).stale(push) is None:
                board = merged(board, [push], now_ns)
                before.append(push)


def test_a_push_of_a_clock_that_was_ahead_is_known_for_as_long_as_it_is_near() -> None:
    ahead = told(1, time_ns=NOW_NS + 290 * 10**9)
    with patch.object(recent, "MOST", 3):
        board = merged(Board(), [ahead, *(told(2, time_ns=NOW_NS + number) for number in range(9))], NOW_NS)
        later = NOW_NS + 370 * 10**9
        board = merged(board, [told(2, time_ns=later)], later)
        assert Times(board).stale(ahead) is not None
