"""The webhook's settings: from KERNELSECRET_WEBHOOK_* variables, overridden by flags, checked once, then passed down.

No file is touched here. Every message names the variable (or the flag) that is wrong.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from kernelsecret.errors import Code, Refused
from telemetry.setting_types import Address
from webhook.options import OPTIONS, PREFIX

_OPTIONS = {option.name: option for option in OPTIONS}


class Settings(BaseSettings):
    """Everything that can be set, checked. `kubeconfig` is None in a pod, `audit_log` None for standard output."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, arbitrary_types_allowed=True
    )

    kubeconfig: Path | None
    address: Address
    nodes_address: Address
    namespace: str
    extra_hosts: Annotated[tuple[str, ...], NoDecode]
    identity: str
    agent_port: int
    handover_s: int
    drain_s: int
    finish_s: int
    max_body: int
    audit_log: Path | None
    vault_address: str
    vault_agent_image: str
    vault_ca_file: Path | None
    vault_server_name: str
    vault_agent_cpu: str
    vault_agent_memory: str
    vault_agent_limit: str
    log_level: str

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then variables, then the table's defaults; no file."""
        defaults = InitSettingsSource(settings_cls, {option.name: option.default for option in OPTIONS})
        return init_settings, EnvSettingsSource(settings_cls), defaults

    @field_validator("*", mode="plain")
    @classmethod
    def _parsed(cls, text: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        return _OPTIONS[info.field_name].parse(str(text))

    @classmethod
    def load(cls, flags: Mapping[str, object] | None = None) -> Settings:
        """Settings from the environment and from flags by field name (None: not given).

        Raises Refused (INVALID_ARGUMENT) that names the variable or the flag.
        """
        given: dict[str, Any] = {name: value for name, value in (flags or {}).items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            raise _refusal(error, given) from None
        if not settings.identity:
            own = f"{socket.gethostname().lower()}-{secrets.token_hex(4)}"
            settings = settings.model_copy(update={"identity": own})
        return settings


def _refusal(error: ValidationError, given: Mapping[str, object]) -> Refused:
    """The first thing that is wrong, in our words."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    option = _OPTIONS.get(name)
    if option is None:
        return Refused(Code.INVALID_ARGUMENT, name, "there is no such setting")
    is_flag = name in given
    text = str(given[name]) if is_flag else os.environ.get(option.variable, "")
    why = first.get("ctx", {}).get("error") or first["msg"]
    fix = f"for example {option.default}" if option.default else "leave it empty for the default"
    return Refused(Code.INVALID_ARGUMENT, option.flag if is_flag else option.variable, f"{text[:200]!r} {why}", fix)
