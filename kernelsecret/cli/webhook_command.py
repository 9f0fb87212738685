"""`kernelsecret-ctl webhook`: a flag for each setting, made from the table of settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from kernelsecret.cli.failures import CommandError, Exit, say
from kernelsecret.cli.flags import with_flags
from kernelsecret.errors import Refused
from telemetry.options import misspelt
from webhook.options import OPTIONS, PREFIX

HELP = """Run one replica of the admission webhook until SIGTERM.

It serves the API server over TLS with a certificate that it makes and renews itself, and hands registrations to the
agents. Every flag has a variable, which it wins over. Logs are JSON lines on standard error."""
EPILOG = (
    "Examples:\n\n  kernelsecret-ctl webhook\n\n"
    "  kernelsecret-ctl webhook --kubeconfig ~/.kube/config --address 127.0.0.1:8443 --extra-hosts 127.0.0.1"
)


def command() -> Callable[..., None]:
    """The command's function, with a flag for each setting.

    It becomes another program, so that the daemon does not carry the command line's libraries for its whole life.
    """

    def webhook(**given: Any) -> None:
        from webhook.settings import Settings

        try:
            Settings.load(given)
        except Refused as refusal:
            raise CommandError(str(refusal), Exit.USAGE) from None
        for name, meant in misspelt(os.environ, OPTIONS, PREFIX).items():
            say(f"{name} means nothing to the webhook" + (f"; {meant} does" if meant else ""))
        os.execve(sys.executable, [sys.executable, "-P", "-m", "webhook"], environment(given))  # noqa: S606

    return with_flags(webhook, OPTIONS)


def environment(given: Mapping[str, object]) -> dict[str, str]:
    """The environment in which the daemon reads what the flags said."""
    flags = {option.variable: str(given[option.name]) for option in OPTIONS if given.get(option.name) is not None}
    return {**os.environ, **flags}
