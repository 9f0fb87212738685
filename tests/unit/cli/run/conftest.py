"""What these tests start meets signals as it would from a terminal, however the tests themselves were started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

IGNORED_IN_THE_BACKGROUND = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""A shell has its jobs in the background, and nohup its command, ignore these; what they start inherits it."""


@pytest.fixture(autouse=True, scope="session")
def _signals_as_from_a_terminal() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in IGNORED_IN_THE_BACKGROUND}
    ignored = [number for number, handler in before.items() if handler is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
