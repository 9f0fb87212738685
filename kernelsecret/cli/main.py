"""`kernelsecret-ctl`: the door to everything. Commands import what they need when they run, so that help is instant."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kernelsecret.cli import agent_command, run_command, webhook_command
from kernelsecret.cli.failures import CommandError, Exit, from_os, leave, need_root, say
from kernelsecret.cli.flags import Output
from kernelsecret.errors import KernelSecretError
from kernelsecret.names import HOST_WEBHOOK

app = typer.Typer(
    name="kernelsecret-ctl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables, and those can be secrets
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    help="Rotated secrets in running pods within milliseconds, served as files from the kernel.\n\n"
    "Exit status: 0 all went well, 1 something went wrong or was refused, 2 the command line or a setting is wrong.",
)


class EngineChoice(StrEnum):
    """Which engine is shown."""

    AUTO = "auto"
    ITER = "iter"
    TMPFS = "tmpfs"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]
SocketOption = Annotated[
    Path | None,
    typer.Option("--admin-socket", help="Of the agent to ask.", envvar="KERNELSECRET_ADMIN_SOCKET", show_envvar=True),
]

app.command(name="agent", short_help="Run the node agent.", help=agent_command.HELP, epilog=agent_command.EPILOG)(
    agent_command.command()
)
app.command(
    name="run",
    short_help="Run a command with its secrets, without a cluster.",
    help=run_command.HELP,
    epilog=run_command.EPILOG,
    context_settings={"allow_interspersed_args": False},
)(run_command.run)
app.command(
    name="webhook",
    short_help="Run the admission webhook.",
    help=webhook_command.HELP,
    epilog=webhook_command.EPILOG,
)(webhook_command.command())


@app.command(
    short_help="Find out what this node can do.",
    epilog="Examples:\n\n  kernelsecret-ctl probe\n\n  kernelsecret-ctl probe --require iter || echo 'no BPF here'\n\n"
    "  kernelsecret-ctl probe -o json | jq -r .engine",
)
def probe(
    output: OutputOption = Output.TABLE,
    require: Annotated[EngineChoice, typer.Option(help="Exit with 1 unless this engine works.")] = EngineChoice.AUTO,
    admin_socket: SocketOption = None,
) -> None:
    """Find out what this node can do, by doing it.

    Serves a canary from the kernel, reads it, is refused where it must be, and hears of both; then everything is
    removed. Where an agent runs, its own findings are shown.
    """
    from kernelsecret.cli import probe_command

    need_root("probe")
    leave(probe_command.run(admin_socket, require=require.value, as_json=output is Output.JSON))


@app.command(
    short_help="Say what admission does with a pod, and why.",
    epilog="Examples:\n\n  kernelsecret-ctl explain api-0 -n payments\n\n"
    "  kernelsecret-ctl explain -f deployment.yaml && kubectl apply -f deployment.yaml\n\n"
    "  kernelsecret-ctl explain --offline docs/examples/cluster -n payments api-0\n\n"
    "  kernelsecret-ctl explain api-0 -n payments -o json | jq -r '.refusals[].fix'",
)
def explain(
    pod: Annotated[str, typer.Argument(help="Name of a pod that runs.", show_default=False)] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the pod.", show_default=False)] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="A manifest that is not created yet: pods, or workloads; - is stdin."),
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option(help="Take policy from a folder with interceptors/, namespaces/, nodes/ and pods/ instead."),
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="As kubectl has it; KUBECONFIG is looked at.")] = None,
    context: Annotated[str, typer.Option(help="Of the kubeconfig.", show_default=False)] = "",
    server: Annotated[
        str, typer.Option(help="Of `kubectl proxy`, where the kubeconfig asks a plugin.", show_default=False)
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what admission does with a pod: opted in or not, which interceptor, mode and containers, and each rule.

    It decides by the webhook's own policy and the cluster's present state, and changes nothing; it needs to read pods,
    namespaces, nodes and SecretInterceptors. For a pod that runs, it also says where the pod is not what it would be
    made now. Exit status 1 means that a pod is refused.
    """
    from kernelsecret.cli import explain_command

    leave(
        explain_command.run(
            pod,
            namespace=namespace,
            manifest=file,
            offline=offline,
            kubeconfig=kubeconfig,
            context=context,
            server=server,
            as_json=output is Output.JSON,
        )
    )


@app.command(
    short_help="Show the agent of this node and its volumes.",
    epilog="Examples:\n\n  kernelsecret-ctl status\n\n  kernelsecret-ctl status -o json | jq '.volumes | length'",
)
def status(output: OutputOption = Output.TABLE, admin_socket: SocketOption = None) -> None:
    """Ask the agent of this node: engine, what is wrong, every volume with its reads and refusals."""
    from kernelsecret.cli import status_command

    leave(status_command.run(admin_socket, as_json=output is Output.JSON))


@app.command(
    short_help="Show the secrets that are served here, and who has read which version.",
    epilog="Examples:\n\n  kernelsecret-ctl secrets\n\n  kernelsecret-ctl secrets --pod payments/api-0\n\n"
    "  kernelsecret-ctl secrets -o json | jq '.[] | select(.problem != \"\") | {path, problem}'",
)
def secrets(
    output: OutputOption = Output.TABLE,
    pod: Annotated[
        str, typer.Option(help="NAMESPACE/NAME: its secrets only, with each file.", show_default=False, metavar="POD")
    ] = "",
    admin_socket: SocketOption = None,
) -> None:
    """Show each secret of this node: source, version, how fresh it is, its lease, and what is wrong with it.

    VERSION is the source's own name of what pods are shown now. CHECKED is when the source last said that it is
    current, BY how that is known. READERS counts the pods whose programs have read that version. Never a value.
    """
    from kernelsecret.cli import secrets_command

    leave(secrets_command.run(admin_socket, pod=pod, as_json=output is Output.JSON))


@app.command(
    short_help="Watch reads, refusals and rotations live.",
    epilog="Examples:\n\n  kernelsecret-ctl trace\n\n  kernelsecret-ctl trace --replay 50 --no-follow\n\n"
    "  kernelsecret-ctl trace -o json | jq -c 'select(.kind == \"refused\")'",
)
def trace(
    output: OutputOption = Output.TABLE,
    replay: Annotated[int, typer.Option(min=0, max=100_000, help="Show so many earlier events first.")] = 0,
    follow: Annotated[bool, typer.Option(help="Wait for more, also across restarts of the agent.")] = True,
    admin_socket: SocketOption = None,
) -> None:
    """Watch live: every refusal, first reads of a version, rotations, volumes that come and go. Ctrl-C ends it.

    With --output json each line is one object. No line ever has a secret's value in it.
    """
    from kernelsecret.cli import trace_command

    leave(trace_command.run(admin_socket, replay=replay, follow=follow, as_json=output is Output.JSON))


@app.command(
    short_help="Say that secrets have changed: every agent looks at once.",
    epilog="Examples:\n\n"
    "  kernelsecret-ctl push vault:secret/data/payments/db --sender ci --key-file ci.key --ca-file ca.pem\n\n"
    "  kernelsecret-ctl push file:payments/tls kubernetes:web --sender ci --key-file ci.key --ca-file ca.pem\n\n"
    "Without this program: docs/push.md has the same with openssl and curl.",
)
def push(
    secret: Annotated[
        list[str],
        typer.Argument(help="SOURCE:PATH as an interceptor names it; several are one push.", metavar="SECRET"),
    ],
    sender: Annotated[str, typer.Option(help="Your name in the Secret kernelsecret-push-keys.")],
    key_file: Annotated[
        Path, typer.Option(help="Your key, every byte of it as the Secret has it. It goes nowhere else.")
    ],
    ca_file: Annotated[Path, typer.Option(help="Of the webhook: `authorities` of the ConfigMap kernelsecret-trust.")],
    server: Annotated[str, typer.Option(help="The webhook.")] = f"https://{HOST_WEBHOOK}",
    server_name: Annotated[
        str,
        typer.Option(help="What its certificate is for, where that is not the host of --server.", show_default=False),
    ] = "",
    within: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds to go on trying while the webhook is away or busy.")
    ] = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say that secrets have changed at their source, signed with your key, so that no poll is waited for.

    No value is sent, and nothing is believed: each agent asks the source itself. Once this command has ended well,
    every agent that listens is being told. Exit status 1: it was refused, or nobody answered.
    """
    from kernelsecret.cli import push_command

    leave(
        push_command.run(
            secret,
            sender=sender,
            key_file=key_file,
            server=server,
            ca_file=ca_file,
            server_name=server_name,
            within_s=within,
            as_json=output is Output.JSON,
        )
    )


@app.command(
    short_help="Show the whole product here, in seconds.",
    epilog="Examples:\n\n  sudo kernelsecret-ctl demo\n\n  sudo kernelsecret-ctl demo -o json | jq .p50_ms",
)
def demo(
    output: OutputOption = Output.TABLE,
    engine: Annotated[
        EngineChoice, typer.Option(help="`auto` falls back to tmpfs where there is no root or BPF; `iter` does not.")
    ] = EngineChoice.AUTO,
) -> None:
    """Show the whole product on this machine in a few seconds, and clean up afterwards.

    Starts an agent of its own, makes a pod of real namespaces and cgroups, rotates its secret ten times under two
    running programs, tries to steal it in four ways, kills the agent and brings it back. Nothing else on this machine
    is touched.
    """
    from kernelsecret.cli.demo import command

    leave(command.run(engine.value, as_json=output is Output.JSON))


def main() -> None:
    """The entry point."""
    try:
        app(standalone_mode=True)
    except CommandError as error:
        say(str(error))
        sys.exit(error.status)
    except KernelSecretError as error:
        say(str(error))
        sys.exit(Exit.WRONG)
    except BrokenPipeError:
        leave(Exit.WRONG)  # whoever read the output has left
    except OSError as error:
        say(str(from_os(error)))
        sys.exit(Exit.WRONG)


if __name__ == "__main__":
    main()
