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
from typing import TYPE_CHECKING, Any, Self

import msgspec

from agent.setting_table import OPTIONS, PREFIX
from kernelsecret.errors import Code, Refused
from telemetry import options
from telemetry.setting_types import Address

if TYPE_CHECKING:
    from agent.sources.vault.settings import VaultSettings


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
    vault_address: str
    vault_ca_file: Path | None
    vault_server_name: str
    vault_crl_file: Path | None
    vault_client_cert_file: Path | None
    vault_client_key_file: Path | None
    vault_approle_dir: Path | None
    poll_floor: float
    """Seconds."""
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

    def vault(self) -> VaultSettings | None:
        """Where Vault is, None where this agent has none. Raises Refused that names the variable."""
        if not self.vault_address:
            given = [name for name in self.__struct_fields__ if name.startswith("vault_") and getattr(self, name)]
            if given:
                why = f"is not set, and {PREFIX}{given[0].upper()} is"
                raise Refused(Code.INVALID_ARGUMENT, f"{PREFIX}VAULT_ADDRESS", why, "set both, or none")
            return None
        from agent.sources.vault.settings import VaultSettings

        return VaultSettings(
            self.vault_address,
            ca_file=self.vault_ca_file,
            client_cert_file=self.vault_client_cert_file,
            client_key_file=self.vault_client_key_file,
            crl_file=self.vault_crl_file,
            server_name=self.vault_server_name,
            approle_dir=self.vault_approle_dir,
        )

    def _check(self) -> None:
        """The agent must not serve its own files as secrets, nor take them for a cluster's."""
        self.vault()
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
    return options.page("Settings of the agent", OPTIONS, command="agent", module="agent/setting_table.py")


if __name__ == "__main__":
    sys.stdout.write(page())
