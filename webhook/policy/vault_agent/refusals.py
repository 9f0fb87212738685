"""Why a pod cannot have its secrets by a Vault Agent of its own. Pure functions that name the field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import msgspec

from kernelsecret.interceptor import OnUnavailable, SecretInterceptor, VaultMethod, VaultSource
from kernelsecret.names import VOLUME_NAME, VOLUME_VAULT_AGENT
from kernelsecret.problems import Problem, quoted
from webhook.policy.pods import Pod
from webhook.policy.vault_agent.configuration import configuration
from webhook.policy.vault_agent.ownership import notify_problem, ownership
from webhook.policy.vault_agent.paths import OWN_CONTAINERS
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.policy.volumes import mount_path

MAX_SETTINGS: Final = 110 << 10
"""Bytes of the settings of one container. They are annotations, of which a pod has 256 KiB in all."""
MAX_CA: Final = 32 << 10
"""Bytes of the certificates that Vault is trusted by, in the same place."""
_READABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ANY_SETTINGS: Final = VaultAgentSettings(address="", image="")
_LOGIN: Final = ("role", "auth.method", "auth.mount", "auth.audience", "namespace")


def interceptor_problem(interceptor: SecretInterceptor) -> Problem | None:
    """Why no pod can have an interceptor's secrets in this mode, whatever its settings; None if some can."""
    return next(_interceptor_problems(interceptor), None)


def problem(pod: Pod, interceptor: SecretInterceptor, settings: VaultAgentSettings | None) -> Problem | None:
    """Why this pod cannot have them in this mode, None if it can; also None for one that has them."""
    if settings is None:
        why = "this installation has no Vault and no image for it: the webhook's settings vault_address and"
        return Problem("mode `vault-agent`", f"{why} vault_agent_image are empty", "set both, or use another mode")
    found = interceptor_problem(interceptor)
    if found is not None:
        return replace(found, field=f"interceptor {quoted(interceptor.metadata.name)}: {found.field}")
    found = next(_taken(pod), None)
    if found is not None:
        return found
    try:
        owner = ownership(pod, interceptor)
        return owner if isinstance(owner, Problem) else notify_problem(pod, interceptor)
    except _READABLE:
        return Problem(
            "spec.securityContext", "is not one of a pod, or that of a container is not", "look at its types"
        )


def _interceptor_problems(interceptor: SecretInterceptor) -> Iterator[Problem]:
    spec = interceptor.spec
    first: VaultSource | None = None
    for index, secret in enumerate(spec.secrets):
        at = f"spec.secrets[{index}].source"
        source = secret.source.vault
        if source is None:
            why = "is none that mode `vault-agent` can read: a Vault Agent reads from Vault only"
            yield Problem(f"{at}.{secret.source.kinds[0]}", why, "use vault, or another mode")
            return
        first = first or source
        yield from _source_problems(source, first, f"{at}.vault")
    if spec.delivery.on_unavailable is OnUnavailable.REFUSE:
        why = "refuse cannot be held in mode `vault-agent`, where nobody takes files back from a pod that runs"
        yield Problem("spec.delivery.onUnavailable", why, "set it to keep, or use another mode")
    number = len(configuration(spec, _ANY_SETTINGS, mount_path(interceptor.metadata.name), init=False).encode())
    if number > MAX_SETTINGS:
        why = f"make settings of {number} bytes for mode `vault-agent`, and {MAX_SETTINGS} have room in a pod"
        yield Problem("spec.secrets", why, "use two interceptors with less files, or shorter templates and pointers")


def _source_problems(source: VaultSource, first: VaultSource, at: str) -> Iterator[Problem]:
    if source.auth.method is VaultMethod.APP_ROLE:
        why = "appRole logs in with a credential of the node's agent, which no pod may have"
        yield Problem(f"{at}.auth.method", why, "use kubernetes or jwt in mode `vault-agent`")
    for field, own, other in zip(_LOGIN, _login(source), _login(first), strict=True):
        if own != other:
            why = f"{quoted(own)}, but spec.secrets[0] has {quoted(other)}: in mode `vault-agent` a pod has one login"
            yield Problem(f"{at}.{field}", why, "use one role for all, or two interceptors")
    # The agent takes blanks off both ends of these.
    if source.parameters and source.path != source.path.strip():
        yield Problem(f"{at}.path", "begins or ends with a blank, which a Vault Agent leaves out", "leave it out")
    for name, value in source.parameters.items():
        if value != value.strip():
            why = "begins or ends with a blank, which a Vault Agent leaves out"
            yield Problem(f"{at}.parameters[{quoted(name)}]", why, "leave it out, or use another mode")


def _login(source: VaultSource) -> tuple[str, ...]:
    auth = source.auth
    return source.role, auth.method.value, auth.mount or auth.method.value, auth.audience, source.namespace


def _taken(pod: Pod) -> Iterator[Problem]:
    """What has a name of ours and is something else."""
    for index, volume in enumerate(pod.spec.volumes or ()):
        at = f"spec.volumes[{index}].name"
        is_files = volume.empty_dir is not None and volume.empty_dir.medium == "Memory"
        if volume.name == VOLUME_NAME and not is_files:
            why = f"{quoted(VOLUME_NAME)} is the volume of the files in mode `vault-agent`, and this is another"
            yield Problem(at, why, "give it another name")
        if volume.name == VOLUME_VAULT_AGENT and not bytes(volume.projected):
            why = f"{quoted(VOLUME_VAULT_AGENT)} is the volume of the agent in mode `vault-agent`, and this is another"
            yield Problem(at, why, "give it another name")
    for index, container in enumerate(pod.spec.containers or ()):
        if container.name in OWN_CONTAINERS:
            why = f"{quoted(container.name)} is the name of a container that mode `vault-agent` adds"
            yield Problem(f"spec.containers[{index}].name", why, "give it another name")
