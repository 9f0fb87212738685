"""Interceptors in mode `vault-agent`, and a cluster that has it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import (
    ANNOTATION_VAULT_AGENT,
)
from tests.unit.webhook.builders import interceptor
from tests.unit.webhook.builders import view as any_view
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.view import FixedView

SETTINGS = VaultAgentSettings("https://vault.test:8200", "vault@sha256:0", ca_pem="-----BEGIN CERTIFICATE-----\n")


def secret(name: str = "db", *files: dict[str, Any], path: str = "secret/data/db", **source: Any) -> dict[str, Any]:
    """One of `spec.secrets`; without files it shows the key `password`."""
    shown = list(files) or [{"path": name, "key": "password"}]
    return {"name": name, "source": {"vault": {"path": path, "role": "app", **source}}, "files": shown}


def wanted(*secrets: dict[str, Any], **fields: Any) -> SecretInterceptor:
    """An interceptor whose only mode is `vault-agent`."""
    delivery = {"modes": ["vault-agent"], **fields.pop("delivery", {})}
    return interceptor(
        secrets=list(secrets) or [secret()],
        delivery=delivery,
        access={"unenforced": "allow"},
        rotation={"pollInterval": "1s"} | fields.pop("rotation", {}),
        **fields,
    )


def view(*interceptors: SecretInterceptor, settings: VaultAgentSettings | None = SETTINGS) -> FixedView:
    """A cluster without a node."""
    return replace(any_view(*(interceptors or [wanted()]), nodes=[]), vault_agent=settings)


def settings_in(injected: Any, name: str = ANNOTATION_VAULT_AGENT) -> Any:
    """What a container of the pod reads as its settings."""
    return json.loads(injected["metadata"]["annotations"][name])
