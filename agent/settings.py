"""The agent's settings: from KERNELSECRET_* variables, overridden by flags, checked once, then passed down. No file is
touched here.

Every message names the variable (or the flag) that is wrong. Variables that nobody knows are not an error: Kubernetes
gives each container of a namespace variables such as KERNELSECRET_PORT for a Service called `kernelsecret`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from kernelsecret.errors import Code, Refused
from kernelsecret.names import DRIVER_NAME, HOST_WEBHOOK, PORT_AGENT, PORT_NODES
from telemetry import options
from telemetry.options import Option
from telemetry.setting_types import (
    Address,
    absolute_path,
    address,
    audit_destination,
    endpoint,
    node_name,
    number,
    one_of,
    optional_path,
    socket_path,
)

PREFIX = "KERNELSECRET_"

OPTIONS = (
    Option(
        "node",
        node_name,
        "{hostname}",
        "This node's name in the cluster (`spec.nodeName` by the downward API); the host's name otherwise.",
    ),
    Option(
        "run_dir",
        absolute_path,
        "/run/kernelsecret",
        "Sockets, the private bpffs and other things that live as long as the boot; 0700.",
    ),
    Option(
        "state_dir",
        absolute_path,
        "{run_dir}/state",
        "State files of published volumes, without secrets. They describe maps and mounts, which end with the boot, so"
        " they belong on a file system that ends with it too: a state file that outlived them would describe volumes"
        " that are not there.",
    ),
    Option(
        "kubelet_dir",
        absolute_path,
        "/var/lib/kubelet",
        "kubelet's `--root-dir`: target paths must lie in its `pods` folder.",
    ),
    Option(
        "csi_socket",
        socket_path,
        "{kubelet_dir}/plugins/" + DRIVER_NAME + "/csi.sock",
        "Where kubelet calls the CSI driver.",
    ),
    Option(
        "registration_socket",
        socket_path,
        "{kubelet_dir}/plugins_registry/" + DRIVER_NAME + "-reg.sock",
        "Where kubelet discovers the driver.",
    ),
    Option(
        "admin_socket",
        socket_path,
        "{run_dir}/admin.sock",
        "Where `kernelsecret-ctl status` and `trace` ask; root only.",
    ),
    Option(
        "file_source_dir",
        absolute_path,
        "/etc/kernelsecret/secrets",
        "The `file` source: secret `payments/db` is the folder `payments/db` in it.",
    ),
    Option(
        "cluster",
        one_of("auto", "api", "files"),
        "auto",
        "Where the cluster's own view of pods and policy comes from: the API server (`api`) or files; `auto` takes the"
        " API server in a pod that has a service-account token, or where a kubeconfig is named.",
    ),
    Option(
        "cluster_dir",
        absolute_path,
        "/etc/kernelsecret/cluster",
        "Pods, interceptors and registrations as files, where there is no API server.",
    ),
    Option("kubeconfig", optional_path, "", "How to reach the API server from elsewhere than a pod of the cluster."),
    Option(
        "registrations_address",
        address,
        f"0.0.0.0:{PORT_AGENT}",
        "Where the webhook hands registrations over, by mutual TLS (with the API server only).",
    ),
    Option(
        "webhook_address",
        endpoint,
        f"{HOST_WEBHOOK}:{PORT_NODES}",
        "The webhook's door for nodes: this node's certificate comes from there, and registrations that it lacks.",
    ),
    Option(
        "identity_token",
        absolute_path,
        "/var/run/secrets/kernelsecret.io/identity/token",
        "The agent's own service-account token for the audience `kernelsecret.io/identity`, which proves its node.",
    ),
    Option("http_address", address, "127.0.0.1:9473", "Health and metrics; anyone who can reach it can read them."),
    Option(
        "engine",
        one_of("auto", "iter", "tmpfs"),
        "auto",
        "How volumes are served; `auto` takes what the probe shows to work.",
    ),
    Option(
        "audit_log",
        audit_destination,
        "/var/log/kernelsecret/audit.jsonl",
        "The audit log, one JSON line an event; `-` is standard output.",
    ),
    Option("log_level", one_of("debug", "info", "warning", "error"), "info", "What the log says at least."),
    Option("cgroup_root", absolute_path, "/sys/fs/cgroup", "Where the host's cgroup file systems are seen."),
    Option(
        "events_per_second",
        number(1, 100_000),
        "100",
        "Events that the kernel reports a second for one volume; the rest is counted.",
    ),
    Option("events_kept", number(0, 100_000), "256", "Events that a late `trace` can still see."),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, checked. `audit_log` is None for standard output."""

    node: str
    run_dir: Path
    state_dir: Path
    kubelet_dir: Path
    csi_socket: Path
    registration_socket: Path
    admin_socket: Path
    file_source_dir: Path
    cluster: str
    cluster_dir: Path
    kubeconfig: Path | None
    registrations_address: Address
    webhook_address: Address
    identity_token: Path
    http_address: Address
    engine: str
    audit_log: Path | None
    log_level: str
    cgroup_root: Path
    events_per_second: int
    events_kept: int

    @classmethod
    def load(cls, env: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> Self:
        """Settings from variables and from flags by field name (None: not given); flags win, an empty variable counts
        as unset.

        Raises Refused (INVALID_ARGUMENT) that names the variable or the flag.
        """
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        if stray := set(given) - {option.name for option in OPTIONS}:
            raise Refused(Code.INVALID_ARGUMENT, sorted(stray)[0], "there is no such setting")
        found: dict[str, Any] = {}
        for option in OPTIONS:
            where = option.flag if option.name in given else option.variable
            text = str(given[option.name]) if option.name in given else env.get(option.variable, "")
            if not text and option.name not in given:
                text = option.default.format(hostname=socket.gethostname().lower(), **found)
            try:
                found[option.name] = option.parse(text)
            except ValueError as problem:
                raise Refused(
                    Code.INVALID_ARGUMENT, where, f"{text[:200]!r} {problem}", f"for example {option.default}"
                ) from None
        settings = cls(**found)
        settings._check()
        return settings

    def _check(self) -> None:
        """The agent must not serve its own files as secrets, nor take them for a cluster's."""
        for outer in ("file_source_dir", "cluster_dir"):
            for inner in ("run_dir", "state_dir", "audit_log"):
                path: Path | None = getattr(self, inner)
                if path is not None and path.is_relative_to(getattr(self, outer)):
                    raise Refused(
                        Code.INVALID_ARGUMENT,
                        PREFIX + inner.upper(),
                        f"lies in {PREFIX}{outer.upper()} ({path})",
                        "keep them apart",
                    )


def misspelt(env: Iterable[str]) -> dict[str, str]:
    """KERNELSECRET_* variables that mean nothing, each with the nearest that does (or "")."""
    return options.misspelt(env, OPTIONS, PREFIX)


def page() -> str:
    """docs/settings.md, made from the options: `python -m agent.settings > docs/settings.md`."""
    return options.page("Settings of the agent", OPTIONS, command="agent", module="agent/settings.py")


if __name__ == "__main__":
    sys.stdout.write(page())
