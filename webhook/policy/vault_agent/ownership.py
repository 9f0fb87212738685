"""Whose the files of mode `vault-agent` are: the user that the agent runs as, and a group that the application is in.

The agent cannot give files away, so it runs as the application's own user where all containers that get the files have
one and it is not root. Otherwise the files are readable by a group: that of the pod (`fsGroup`), or one that is added
to the groups of every process of the pod (`supplementalGroups`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import ANNOTATION_CONTAINERS, ANNOTATION_INJECTED_CONTAINERS, VOLUME_NAME
from kernelsecret.problems import Problem
from kernelsecret.quantities import mode
from webhook.policy.containers import PROXIES, split_names
from webhook.policy.pods import Place, Pod, places
from webhook.policy.vault_agent.paths import OWN_CONTAINERS

AGENT_USER: Final = 65532
"""The user of the agent where it cannot be the application's; of the group too."""


class Ownership(NamedTuple):
    """`group` is None where the image decides; `added` is a group that the whole pod has to be in, or None."""

    user: int
    group: int | None
    added: int | None


class Security(msgspec.Struct, rename="camel", frozen=True, kw_only=True, gc=False):
    """The part of a securityContext, of a pod or of a container, that says who its processes are."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] | None = None


_NOBODY: Final = Security()
_SECURITY: Final = msgspec.json.Decoder(Security | None)


def security(raw: Raw) -> Security:
    """A securityContext, also where there is none. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return (_SECURITY.decode(raw) if bytes(raw) else None) or _NOBODY


def receivers(pod: Pod, interceptor: SecretInterceptor) -> list[Place]:
    """The containers of the pod that get the files; those that admission chose, once it has."""
    own = [place for place in places(pod.spec) if place.name not in OWN_CONTAINERS]
    written = split_names(pod.annotations.get(ANNOTATION_INJECTED_CONTAINERS, ""))
    asked = split_names(pod.annotations.get(ANNOTATION_CONTAINERS, ""))
    names = set(written or asked or interceptor.spec.delivery.containers)
    chosen = [place for place in own if (place.name in names if names else place.name not in PROXIES)]
    return chosen + [place for place in own if place not in chosen and _has_the_files(place)]


def ownership(pod: Pod, interceptor: SecretInterceptor) -> Ownership | Problem:
    """Who the agent is, or why the application could not read a file."""
    of_pod = security(pod.spec.security_context)
    chosen = receivers(pod, interceptor)
    user = _common(of_pod.run_as_user, [security(place.container.security_context).run_as_user for place in chosen])
    if user and all(number & 0o400 for _, number in _modes(interceptor)):
        groups = [security(place.container.security_context).run_as_group for place in chosen]
        return Ownership(user, _common(of_pod.run_as_group, groups), None)
    for field, number in _modes(interceptor):
        if not number & 0o044:
            why = f"{number:04o} is for its owner alone, and the containers that get it do not all run as one user"
            fix = "set runAsUser for the pod, to another than 0, or give the file the mode 0440"
            return Problem(f"interceptor '{interceptor.metadata.name}': {field}", why, fix)
    return Ownership(AGENT_USER, AGENT_USER, AGENT_USER if of_pod.fs_group is None else None)


def notify_problem(pod: Pod, interceptor: SecretInterceptor) -> Problem | None:
    """Why the agent could not signal the application, None where it can or need not."""
    if interceptor.spec.rotation.notify is None:
        return None
    name = f"interceptor '{interceptor.metadata.name}': spec.rotation.notify"
    if not pod.spec.share_process_namespace:
        why = f"missing, but {name} asks for a signal, which the Vault Agent sends from another container"
        return Problem("spec.shareProcessNamespace", why, "set it to true, or take the mode ebpf")
    of_pod = security(pod.spec.security_context)
    each = [security(place.container.security_context) for place in receivers(pod, interceptor)]
    user = _common(of_pod.run_as_user, [one.run_as_user for one in each])
    group = _common(of_pod.run_as_group, [one.run_as_group for one in each])
    if not user:
        why = f"{name} asks for a signal, which only the same user may send: the containers have not one, or it is root"
        return Problem("spec.securityContext.runAsUser", why, "set it to the application's user, to another than 0")
    if group is None:
        why = f"{name} asks for a signal, and only who has the same group as well sees whom to send it to"
        return Problem("spec.securityContext.runAsGroup", why, "set it to the application's group")
    return None


def _has_the_files(place: Place) -> bool:
    return any(mount.name == VOLUME_NAME for mount in place.container.volume_mounts or ())


def _common(of_pod: int | None, of_containers: Sequence[int | None]) -> int | None:
    """What all containers have, None where they differ or nobody says it."""
    found = {of_pod if own is None else own for own in of_containers}
    return found.pop() if len(found) == 1 else None


def _modes(interceptor: SecretInterceptor) -> Iterator[tuple[str, int]]:
    for index, secret in enumerate(interceptor.spec.secrets):
        for number, file in enumerate(secret.files):
            yield f"spec.secrets[{index}].files[{number}].mode", mode(file.mode)
