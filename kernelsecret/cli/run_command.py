"""`kernelsecret-ctl run`: its options, and what its help teaches."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from kernelsecret.cli.failures import leave
from kernelsecret.cli.flags import Output
from kernelsecret.cli.run.plan import Pass
from kernelsecret.interceptor import VaultMethod

HELP: Final = """Run a command with its secrets, without a cluster.

A variable of the environment that is a reference becomes the path of a file with the secret, in memory:

\b
    vault:PATH#KEY     a path of Vault's API: KV v1 and v2, or credentials
                       made for COMMAND; vault:PATH?version=3#KEY pins one
    file:/FOLDER/FILE  a file; file:/FOLDER#KEY is the same

The value is in no environment, argument or disk. Opened again, the path shows the newest value, whole. COMMAND is not
started unless every reference is good. NAME_FILE=vault:... suits programs that take the name of a file.

Vault is found, and believed, by VAULT_ADDR, VAULT_CACERT and VAULT_NAMESPACE, as by Vault's own command line; so is the
token, by VAULT_TOKEN (which COMMAND does not get) or ~/.vault-token, unless --vault-role or --vault-approle logs in.

Exit status: that of COMMAND, 128 and the number of the signal that ended it; 125 where it was not started because of
us, 126 where it cannot be run, 127 where it is not there; 2 for a wrong option."""

EPILOG: Final = (
    "Examples:\n\n\b\n"
    "  export DB_PASSWORD_FILE=vault:secret/data/db#password\n"
    "  kernelsecret-ctl run -- ./server\n"
    "  kernelsecret-ctl run --on-change restart --vault-role app -- ./worker\n"
    "  kernelsecret-ctl run --check -o json\n\n\b\n"
    "  export TLS_KEY=file:/etc/app/tls.key\n"
    "  kernelsecret-ctl run --on-change signal:SIGHUP -- ./server --tls"
)


class JwtMethod(StrEnum):
    """Which of Vault's auth methods takes a signed token."""

    KUBERNETES = "kubernetes"
    JWT = "jwt"


def run(
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run; its status is ours.", metavar="COMMAND [ARGS]")
    ] = None,
    names: Annotated[
        str,
        typer.Option(
            help="Only these variables are references, with commas. Else: by their beginning.", metavar="NAMES"
        ),
    ] = "",
    by: Annotated[
        Pass, typer.Option("--pass", help="memfd: can be opened again and shows the new value. pipe: once.")
    ] = Pass.MEMFD,
    on_change: Annotated[
        str, typer.Option(help="none, signal:SIGHUP (or another), restart or exit.", metavar="ACTION")
    ] = "none",
    poll_interval: Annotated[str, typer.Option(help="Between two looks at Vault.", metavar="DURATION")] = "1s",
    grace: Annotated[
        str, typer.Option(help="From SIGTERM to SIGKILL, for restart and exit.", metavar="DURATION")
    ] = "10s",
    group: Annotated[
        bool, typer.Option("--group", "-g", help="Signals go to all of COMMAND's process group, not to it alone.")
    ] = False,
    vault_role: Annotated[
        str, typer.Option(help="Log in as this role with the token of --vault-jwt-file.", show_default=False)
    ] = "",
    vault_auth: Annotated[JwtMethod, typer.Option(help="The method of that login.")] = JwtMethod.KUBERNETES,
    vault_mount: Annotated[
        str, typer.Option(help="Where the auth method is mounted, if not at its default.", show_default=False)
    ] = "",
    vault_jwt_file: Annotated[
        Path, typer.Option(help="A service-account token, or another signed one; read at each login.")
    ] = Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    vault_approle: Annotated[
        Path | None, typer.Option(help="Log in by this folder's role-id and secret-id.", metavar="FOLDER")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Resolve all, say what was found, and start nothing.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="Of --check.")] = Output.TABLE,
) -> None:
    """The command; HELP is what it says of itself."""
    from kernelsecret.cli.run import command as running
    from kernelsecret.cli.run.login import Options

    login = Options(vault_role, VaultMethod(vault_auth.value), vault_mount, vault_jwt_file, vault_approle)
    asked = running.Asked(names, by, on_change, poll_interval, grace, group, login)
    if check:
        leave(running.check(asked, as_json=output is Output.JSON))
    leave(running.run(command or [], asked))
