"""`kernelsecret-ctl demo`: finds out what can be shown here, shows it, and prints the figures."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from rich.console import Console

from kernelsecret.cli.demo.figures import Figures
from kernelsecret.cli.demo.screen import Screen
from kernelsecret.cli.demo.userns import become_root
from kernelsecret.cli.failures import CommandError, Exit, say

NO_ROOT = "Without root there is no BPF: this shows the engine tmpfs, in a user namespace."


def run(engine: str, *, as_json: bool) -> int:
    """Play it; 1 where anything went wrong."""
    with open(os.devnull, "w") as nowhere:
        screen = Screen(Console(file=nowhere) if as_json else Console())
        screen.title()
        is_root = os.geteuid() == 0
        if not is_root:
            engine = _without_root(engine, screen)
        # Only now: the user namespace had to be entered by a process of a single thread, and these start some.
        from kernelsecret.cli.demo.story import Story

        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)
        story = Story(screen, engine, has_cgroups=is_root)
        try:
            story.play()
        except KeyboardInterrupt:
            say("interrupted; everything was removed again")
            return Exit.WRONG
        screen.close(story.figures)
    return _finish(story.figures, as_json=as_json)


def _finish(figures: Figures, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(figures.as_object()))
    wrong = figures.wrong()
    if as_json or not sys.stdout.isatty():
        for problem in wrong:
            say(f"demo: {problem}")
    if figures.engine == "tmpfs" and as_json:
        why = f" ({figures.reason})" if figures.reason else ""
        say(f"demo: shown by the engine tmpfs{why}; that readers are refused was not tried")
    return Exit.WRONG if wrong else Exit.OK


def _without_root(engine: str, screen: Screen) -> str:
    """The engine that can be shown. Raises CommandError where none can."""
    if engine == "iter":
        raise CommandError("demo --engine iter needs root: run it with sudo")
    try:
        become_root()
    except OSError as error:
        raise CommandError(
            f"demo needs root (run it with sudo), or user namespaces to mount a tmpfs without it: {error.strerror}"
        ) from error
    screen.without_root(NO_ROOT)
    return "tmpfs"


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
