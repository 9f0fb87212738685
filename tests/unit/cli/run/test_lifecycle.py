"""What the supervisor does next, as a story of events and steps."""

from __future__ import annotations

import signal

import pytest

from kernelsecret.cli.run.lifecycle import Do, Lifecycle, Step
from kernelsecret.cli.run.plan import Change, OnChange, change_of, duration

TERM, KILL, CONT, HUP = signal.SIGTERM, signal.SIGKILL, signal.SIGCONT, signal.SIGHUP
ENDING = [Step(Do.SIGNAL, TERM), Step(Do.SIGNAL, CONT), Step(Do.AWAIT)]


def running(do: OnChange, number: int = 0) -> Lifecycle:
    """With a COMMAND that has been started."""
    life = Lifecycle(Change(do, number))
    assert life.resolved() == [Step(Do.START)]
    return life


def test_an_end_before_the_start_is_heard_and_other_signals_are_not() -> None:
    life = Lifecycle(Change())
    assert life.signalled(signal.SIGWINCH) == []
    assert life.signalled(TERM) == [Step(Do.EXIT, 143)]


@pytest.mark.parametrize("number", [TERM, HUP, signal.SIGINT, signal.SIGUSR1, signal.SIGRTMIN])
def test_a_signal_is_forwarded_each_time_that_it_comes(number: int) -> None:
    life = running(OnChange.NONE)
    assert life.signalled(number) == life.signalled(number) == [Step(Do.SIGNAL, number)]


def test_a_change_does_nothing_unless_something_is_asked_for() -> None:
    assert running(OnChange.NONE).changed() == []


def test_a_change_is_told_by_the_signal_that_is_asked_for() -> None:
    assert running(OnChange.SIGNAL, HUP).changed() == [Step(Do.SIGNAL, HUP)]


def test_a_restart_ends_and_starts_and_a_change_meanwhile_needs_no_other_one() -> None:
    life = running(OnChange.RESTART)
    assert life.changed() == ENDING
    assert life.changed() == []
    assert life.ended(143) == [Step(Do.START)]
    assert life.changed() == ENDING


def test_who_does_not_end_within_the_grace_is_killed_with_its_group() -> None:
    life = running(OnChange.RESTART)
    life.changed()
    assert life.grace_over() == [Step(Do.SIGNAL_ALL, KILL)]
    assert life.ended(137) == [Step(Do.START)]


def test_a_restart_during_which_somebody_asks_for_the_end_is_none() -> None:
    life = running(OnChange.RESTART)
    life.changed()
    assert life.signalled(TERM) == [Step(Do.SIGNAL, TERM)]
    assert life.ended(143) == [Step(Do.EXIT, 143)]


def test_a_restart_during_which_another_signal_comes_remains_one() -> None:
    life = running(OnChange.RESTART)
    life.changed()
    assert life.signalled(HUP) == [Step(Do.SIGNAL, HUP)]
    assert life.ended(143) == [Step(Do.START)]


def test_exit_ends_with_the_status_of_the_command() -> None:
    life = running(OnChange.EXIT)
    assert life.changed() == ENDING
    assert life.ended(0) == [Step(Do.EXIT, 0)]


def test_a_command_that_ends_by_itself_is_not_started_again() -> None:
    assert running(OnChange.RESTART).ended(7) == [Step(Do.EXIT, 7)]


def test_a_late_grace_is_nobodys() -> None:
    assert running(OnChange.NONE).grace_over() == []


def test_only_stops_by_the_terminal_are_followed() -> None:
    life = running(OnChange.NONE)
    assert life.stopped(signal.SIGTSTP) == [Step(Do.STOP, signal.SIGTSTP)]
    assert life.stopped(signal.SIGSTOP) == []


@pytest.mark.parametrize("text", ["signal:SIGHUP", "signal:hup", "signal:Hup"])
def test_a_signal_is_named_as_people_name_it(text: str) -> None:
    assert change_of(text) == Change(OnChange.SIGNAL, HUP)


@pytest.mark.parametrize("text", ["", "signal", "signal:", "signal:KILL", "signal:STOP", "signal:_DFL", "reload"])
def test_what_is_no_action_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="signal"):
        change_of(text)


@pytest.mark.parametrize("text", ["", "1", "-1s", "0s", "10ms", "25h", "1 s"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|not between"):
        duration(text, 0.1)
