"""`kernelsecret-ctl agent`: a flag for each setting, made from the settings themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from agent.setting_table import OPTIONS
from agent.settings import Settings, misspelt
from kernelsecret.cli.failures import CommandError, Exit, leave, need_root, say
from kernelsecret.cli.flags import with_flags
from kernelsecret.errors import Refused

HELP = """Run the node agent until SIGTERM; what it serves goes on being served after it has ended.

Every flag has a variable, which it wins over. Logs are JSON lines on standard error.
With --clean it does not run: it takes everything of ours off this node, volumes in use included."""
EPILOG = (
    "Examples:\n\n  kernelsecret-ctl agent --node worker-1\n\n"
    "  kernelsecret-ctl agent --run-dir /run/try --kubelet-dir /tmp/kubelet --file-source-dir /tmp/secrets\n\n"
    "  kernelsecret-ctl agent --clean"
)


def command() -> Callable[..., None]:
    """The command's function, with a flag for each setting."""

    def agent(**given: Any) -> None:
        clean = given.pop("clean")
        settings = load(given)
        need_root("agent --clean" if clean else "agent")
        leave(_clean(settings) if clean else _run(settings))

    text = "Take everything of ours off this node instead; refused while an agent runs."
    return with_flags(agent, OPTIONS, {"clean": (bool, typer.Option(False, "--clean", help=text))})


def load(given: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags and variables. Raises CommandError (usage) that names the one that is wrong."""
    try:
        return Settings.load(environment, given)
    except Refused as refusal:
        raise CommandError(str(refusal), Exit.USAGE) from None


def socket_of(flag: Path | None) -> Path:
    """The admin socket to ask: the flag, or where an agent with this environment listens. Raises CommandError."""
    return load({"admin_socket": None if flag is None else str(flag.absolute())}).admin_socket


def _run(settings: Settings) -> int:
    from agent import service

    for name, meant in misspelt(os.environ).items():
        say(f"{name} means nothing to the agent" + (f"; {meant} does" if meant else ""))
    return service.run(settings)


def _clean(settings: Settings) -> int:
    from agent import upkeep

    count = upkeep.clean(settings)
    print(f"removed: {count} volumes" if count else "removed: there was no volume")
    return Exit.OK
