"""Where what is called ours in a pod is not what admission makes in mode `vault-agent`. Pure.

What others may add to any container (the defaults of the API server, a mount, a variable that the agent does not read)
is no difference. What would have it do something else is: another program, user, mount or Vault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import VOLUME_VAULT_AGENT
from kernelsecret.problems import Problem, quoted
from webhook.policy.pods import Container, Pod
from webhook.policy.vault_agent.objects import agent_volume, containers, settings_annotations
from webhook.policy.vault_agent.ownership import Ownership, ownership
from webhook.policy.vault_agent.paths import OWN_ANNOTATIONS, OWN_CONTAINERS
from webhook.policy.vault_agent.settings import VaultAgentSettings

_FIX: Final = "leave it to admission: create the pod without it"
# Variables by which a Vault Agent, or the loader of its program, would do something else.
_LEADING: Final = ("VAULT_", "BAO_", "LD_", "SSL_CERT_", "GODEBUG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def differences(pod: Pod, interceptor: SecretInterceptor, settings: VaultAgentSettings, path: str) -> list[Problem]:
    """What in a pod of this mode is not as admission made it. `refusals.problem` has nothing against the pod."""
    return list(_differences(pod, interceptor, settings, path))


def changed(old: Pod, new: Pod) -> list[Problem]:
    """What an update may not change in a pod that has our containers: their images, and their settings."""
    before = {one.name or "": one for one in old.spec.init_containers or () if one.name in OWN_CONTAINERS}
    found = []
    for index, container in enumerate(new.spec.init_containers or ()):
        own = before.get(container.name or "")
        if own is not None and _json(own.image) != _json(container.image):
            why = "was changed, but it is set by admission alone"
            found.append(Problem(f"spec.initContainers[{index}].image", why, "leave it as it was"))
    for name in OWN_ANNOTATIONS:
        if old.annotations.get(name) != new.annotations.get(name):
            why = "was changed, but it is written by admission alone"
            found.append(Problem(f"metadata.annotations[{name}]", why, "leave it as it was"))
    return found


def leftovers(pod: Pod) -> list[Problem]:
    """What is called ours in a pod that does not have this mode."""
    why, fix = "is for pods in mode `vault-agent`, and this is none", "remove it"
    found = [Problem(f"metadata.annotations[{name}]", why, fix) for name in OWN_ANNOTATIONS if name in pod.annotations]
    for kind, each in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        for index, container in enumerate(each or ()):
            if container.name in OWN_CONTAINERS:
                found.append(Problem(f"spec.{kind}[{index}].name", f"{quoted(container.name)} {why}", fix))
    for index, volume in enumerate(pod.spec.volumes or ()):
        if volume.name == VOLUME_VAULT_AGENT:
            found.append(Problem(f"spec.volumes[{index}].name", f"{quoted(volume.name)} {why}", fix))
    return found


def _differences(
    pod: Pod, interceptor: SecretInterceptor, settings: VaultAgentSettings, path: str
) -> Iterator[Problem]:
    wanted = settings_annotations(interceptor, settings, path)
    for name in OWN_ANNOTATIONS:
        if pod.annotations.get(name) != wanted.get(name):
            why = "is missing" if name not in pod.annotations else "is not what admission writes"
            yield Problem(f"metadata.annotations[{name}]", why, _FIX)
    owner = ownership(pod, interceptor)
    assert isinstance(owner, Ownership)
    order = [one.name for one in pod.spec.init_containers or ()]
    for made in containers(settings, owner):
        if made["name"] not in order:
            why = f"the container {quoted(made['name'])} of mode `vault-agent` is missing"
            yield Problem("spec.initContainers", why, "create the pod again")
            continue
        index = order.index(made["name"])
        at = f"spec.initContainers[{index}]"
        yield from _container((pod.spec.init_containers or ())[index], made, at)
    volume = agent_volume(interceptor, settings)
    for index, found in enumerate(pod.spec.volumes or ()):
        if found.name == VOLUME_VAULT_AGENT and not _has(_json(found.projected), volume["projected"]):
            yield Problem(f"spec.volumes[{index}].projected", "is not what admission writes", _FIX)


def _container(found: Container, made: Mapping[str, Any], at: str) -> Iterator[Problem]:
    for field, raw in (
        ("image", found.image),
        ("command", found.command),
        ("securityContext", found.security_context),
    ):
        if not _has(_json(raw), made[field]) or (field == "securityContext" and _has_rights(_json(raw))):
            yield Problem(f"{at}.{field}", "is not what admission writes", _FIX)
    if _json(found.args):
        yield Problem(f"{at}.args", "is not what admission writes", _FIX)
    if _json(found.env_from):
        yield Problem(f"{at}.envFrom", "would have the agent do something else", _FIX)
    for index, variable in enumerate(_json(found.env) or ()):
        name = variable.get("name", "") if isinstance(variable, dict) else ""
        if str(name).upper().startswith(_LEADING):
            yield Problem(f"{at}.env[{index}].name", f"{quoted(name)} would have the agent do something else", _FIX)
    mounts = {(mount.name, mount.mount_path, mount.sub_path) for mount in found.volume_mounts or ()}
    for mount in made["volumeMounts"]:
        if (mount["name"], mount["mountPath"], None) not in mounts:
            why = f"the mount of {quoted(mount['name'])} at {quoted(mount['mountPath'])} is missing"
            yield Problem(f"{at}.volumeMounts", why, _FIX)


def _has_rights(security: Mapping[str, Any]) -> bool:
    """Whether a container was given more than it has by itself."""
    return bool(security.get("privileged") or security["capabilities"].get("add"))


def _has(found: Any, made: Any) -> bool:
    """Whether something has all that was made, and no more items in a list."""
    if isinstance(made, dict):
        return isinstance(found, dict) and all(_has(found.get(key), value) for key, value in made.items())
    if isinstance(made, list):
        return (
            isinstance(found, list)
            and len(found) == len(made)
            and all(_has(one, own) for one, own in zip(found, made, strict=True))
        )
    return bool(found == made)


def _json(raw: Raw) -> Any:
    """A part of the pod, None where it is missing or none of JSON."""
    try:
        return msgspec.json.decode(raw) if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
