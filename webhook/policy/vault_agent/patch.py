"""What a pod lacks that is to have its secrets by a Vault Agent of its own. Pure.

Judged by names, as the rest of the patch: what another webhook or the API server's defaults added to ours since then is
left alone. `webhook.policy.vault_agent.forged` says where ours was changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelsecret.interceptor import SecretInterceptor
from webhook.policy.operation import Operation, pointer
from webhook.policy.pods import Pod
from webhook.policy.vault_agent.objects import agent_volume, containers, files_volume, settings_annotations
from webhook.policy.vault_agent.ownership import Ownership, ownership, security
from webhook.policy.vault_agent.settings import VaultAgentSettings


def operations(pod: Pod, interceptor: SecretInterceptor, settings: VaultAgentSettings, path: str) -> list[Operation]:
    """What turns the pod into one with the agent, after all other operations; nothing where it is. The pod is one
    that `refusals.problem` has nothing against, and has annotations. `path` is where the application has the files."""
    owner = ownership(pod, interceptor)
    assert isinstance(owner, Ownership)
    return [
        *_annotations(pod, interceptor, settings, path),
        *_volumes(pod, interceptor, settings),
        *_groups(pod, owner),
        *_containers(pod, settings, owner),
    ]


def _annotations(
    pod: Pod, interceptor: SecretInterceptor, settings: VaultAgentSettings, path: str
) -> Iterator[Operation]:
    for name, value in settings_annotations(interceptor, settings, path).items():
        if pod.annotations.get(name) != value:
            yield Operation(pointer("metadata", "annotations", name), value)


def _volumes(pod: Pod, interceptor: SecretInterceptor, settings: VaultAgentSettings) -> Iterator[Operation]:
    there = {volume.name for volume in pod.spec.volumes or ()}
    both = (files_volume(interceptor), agent_volume(interceptor, settings))
    lacking = [volume for volume in both if volume["name"] not in there]
    if pod.spec.volumes is None:
        yield Operation("/spec/volumes", lacking)
    else:
        for volume in lacking:
            yield Operation("/spec/volumes/-", volume)


def _groups(pod: Pod, owner: Ownership) -> Iterator[Operation]:
    if owner.added is None:
        return
    at = "/spec/securityContext"
    groups = security(pod.spec.security_context).supplemental_groups
    if bytes(pod.spec.security_context) in (b"", b"null"):
        yield Operation(at, {"supplementalGroups": [owner.added]})
    elif groups is None:
        yield Operation(f"{at}/supplementalGroups", [owner.added])
    elif owner.added not in groups:
        yield Operation(f"{at}/supplementalGroups/-", owner.added)


def _containers(pod: Pod, settings: VaultAgentSettings, owner: Ownership) -> Iterator[Operation]:
    there = {container.name for container in pod.spec.init_containers or ()}
    lacking = [container for container in containers(settings, owner) if container["name"] not in there]
    if not lacking:
        return
    if pod.spec.init_containers is None:
        yield Operation("/spec/initContainers", lacking)
    else:
        for container in reversed(lacking):
            yield Operation("/spec/initContainers/0", container)
