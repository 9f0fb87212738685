"""The Vault Agent's settings for one interceptor, as the JSON that its container reads. Pure.

No token is written to a file (there is no sink), nothing listens but in the agent's own memory, and what logs in is the
pod's own token from a projected volume.
"""

from __future__ import annotations

import math
from typing import Any, Final

from kernelsecret.interceptor import InterceptorSpec, Rotation, VaultMethod, VaultSource
from kernelsecret.quantities import mode, seconds, size
from webhook.policy.vault_agent.contents import contents, keys_of
from webhook.policy.vault_agent.go_text import hcl_json
from webhook.policy.vault_agent.paths import CA_FILE, FILES, TOKEN_FILE
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.vault_agent.signals import command

MIN_INTERVAL_S: Final = 1
"""The agent counts whole seconds, and with 0 it would ask without a pause."""
# After an outage it is asked again this soon, at the latest.
_BACKOFF: Final = {"min_backoff": "500ms", "max_backoff": "5s"}
# The sidecar never gives up: its files are good. What starts a pod says soon what is wrong, and kubelet tries again.
_TRIES: Final = 1 << 30
_TRIES_OF_INIT: Final = 2

_MOST_KNOWN: Final = 256
_known: dict[tuple[int, VaultAgentSettings, str, bool], tuple[InterceptorSpec, str]] = {}


def interval_s(rotation: Rotation) -> int:
    """How often the agent looks for a change, in whole seconds; no oftener than a change may be passed on."""
    return max(MIN_INTERVAL_S, math.ceil(max(seconds(rotation.poll_interval), seconds(rotation.min_interval))))


def configuration(spec: InterceptorSpec, settings: VaultAgentSettings, path: str, *, init: bool) -> str:
    """The text of the settings: with `init` those of the container that renders once and ends, otherwise the
    sidecar's. `path` is where the application finds the files. Remembered, because every pod of an interceptor has the
    same, and is looked at more than once."""
    key = id(spec), settings, path, init
    known = _known.get(key)
    if known is not None and known[0] is spec:
        return known[1]
    made: dict[str, Any] = {
        "vault": _vault(settings, _TRIES_OF_INIT if init else _TRIES),
        "auto_auth": {"method": [_login(_first(spec), init=init)]},
        "template_config": {
            "static_secret_render_interval": f"{interval_s(spec.rotation)}s",
            "exit_on_retry_failure": init,
        },
        "template": _templates(spec, path, init=init),
        "exit_after_auth": init,
        "disable_mlock": True,
    }
    text = hcl_json(made)
    if len(_known) >= _MOST_KNOWN:
        del _known[next(iter(_known))]
    _known[key] = spec, text
    return text


def _first(spec: InterceptorSpec) -> VaultSource:
    """The source whose login is that of all."""
    source = spec.secrets[0].source.vault
    assert source is not None
    return source


def _vault(settings: VaultAgentSettings, tries: int) -> dict[str, Any]:
    made: dict[str, Any] = {"address": settings.address, "retry": {"num_retries": tries}}
    if settings.ca_pem:
        made["ca_cert"] = CA_FILE
    if settings.server_name:
        made["tls_server_name"] = settings.server_name
    return made


def _login(source: VaultSource, *, init: bool) -> dict[str, Any]:
    auth = source.auth
    made: dict[str, Any] = {"type": auth.method.value, "mount_path": f"auth/{auth.mount or auth.method.value}"}
    if source.namespace:
        made["namespace"] = source.namespace
    made |= _BACKOFF
    if init:
        made["exit_on_err"] = True
    if auth.method is VaultMethod.JWT:
        made["config"] = {"role": source.role, "path": TOKEN_FILE, "remove_jwt_after_reading": False}
    else:
        made["config"] = {"role": source.role, "token_path": TOKEN_FILE}
    return made


def _templates(spec: InterceptorSpec, path: str, *, init: bool) -> list[dict[str, Any]]:
    most = size(spec.limits.max_file_bytes)
    made: list[dict[str, Any]] = []
    for secret in spec.secrets:
        assert secret.source.vault is not None
        needed = sorted(set().union(*map(keys_of, secret.files)))
        for file in secret.files:
            # The agent takes two templates of the same text for one; a number makes each its own.
            template: dict[str, Any] = {
                "contents": f"{{{{/*{len(made)}*/}}}}{contents(secret.source.vault, file, most, needed)}",
                "destination": f"{FILES}/{file.path}",
                "perms": f"{mode(file.mode):04o}",
                "create_dest_dirs": False,
                "error_on_missing_key": True,
                # A version that cannot be shown ends the container that starts a pod; a running one keeps its files,
                # and looks again in the next interval.
                "error_fatal": init,
            }
            if spec.rotation.notify is not None and not init:
                template["exec"] = command(spec.rotation.notify, path)
            made.append(template)
    return made
