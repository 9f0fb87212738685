"""Our volume in a pod, and where it is mounted: what is there already, and what stands in its way. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from kernelsecret.interceptor import Mode
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INTERCEPTOR,
    ATTRIBUTE_INTERCEPTOR,
    ATTRIBUTE_SHIM,
    MOUNT_ROOT,
    VOLUME_NAME,
)
from kernelsecret.problems import Problem, quoted
from webhook.policy.pods import Csi, Mount, Place, Pod, Volume
from webhook.policy.steps import Refusal, Rule


def mount_path(interceptor: str) -> str:
    """Where an interceptor's files are, in every container that has them."""
    return f"{MOUNT_ROOT}/{interceptor}"


def same_place(path: str) -> str:
    """A path with one spelling: `/var/run` is a link to `/run` on most nodes and in most images."""
    plain = posixpath.normpath("/" + path.lstrip("/"))
    return plain.removeprefix("/var") if plain == "/var/run" or plain.startswith("/var/run/") else plain


def our_volumes(volumes: Sequence[Volume]) -> list[tuple[int, Volume]]:
    """Those in which our driver shows secrets, with their indexes."""
    return [
        (index, volume)
        for index, volume in enumerate(volumes)
        if volume.csi and volume.is_ours and not volume.csi.is_shim
    ]


def shim_volumes(volumes: Sequence[Volume]) -> list[tuple[int, Volume]]:
    """Those in which our driver shows the shim of mode `preload`, with their indexes."""
    return [
        (index, volume) for index, volume in enumerate(volumes) if volume.csi and volume.is_ours and volume.csi.is_shim
    ]


def given_by(pod: Pod) -> list[str]:
    """The interceptors whose files a pod holds: by volumes of our driver, or by a Vault Agent of its own."""
    volumes = our_volumes(pod.spec.volumes or ())
    if volumes or not has_vault_agent(pod):
        return [volume.csi.interceptor for _, volume in volumes if volume.csi]
    return [pod.annotations.get(ANNOTATION_INTERCEPTOR, "")]


def has_vault_agent(pod: Pod) -> bool:
    """Whether admission gave the pod mode `vault-agent`."""
    return pod.spec.has_vault_agent and pod.annotations.get(ANNOTATION_CHOSEN_MODE) == Mode.VAULT_AGENT


def holds_secrets(pod: Pod) -> bool:
    """Whether admission gave the pod secrets, by what cannot change while it lives."""
    return pod.spec.has_vault_agent or any(volume.is_ours for volume in pod.spec.volumes or ())


def check_volume(index: int, volume: Volume, interceptor: str) -> None:
    """Raises Refusal unless the agent would serve a volume of our driver, for this interceptor."""
    at = f"spec.volumes[{index}].csi"
    assert volume.csi is not None
    if volume.csi.interceptor != interceptor:
        found = quoted(volume.csi.interceptor) if volume.csi.interceptor else "nothing"
        why = f"names {found}, but the pod is given {quoted(interceptor)}"
        fix = "name that one, or remove the volume: admission adds it"
        raise Refusal(Rule.VOLUME, f"{at}.volumeAttributes[{ATTRIBUTE_INTERCEPTOR}]", why, fix)
    for problem in _unserved(volume.csi, at, ATTRIBUTE_INTERCEPTOR):
        raise Refusal(Rule.VOLUME, problem.field, problem.why, problem.fix)


def check_shim(index: int, volume: Volume) -> None:
    """Raises Refusal unless the agent would serve a volume of our driver with the shim in it."""
    at = f"spec.volumes[{index}].csi"
    assert volume.csi is not None
    value = (volume.csi.volume_attributes or {}).get(ATTRIBUTE_SHIM, "")
    if value != "true":
        field = f"{at}.volumeAttributes[{ATTRIBUTE_SHIM}]"
        raise Refusal(Rule.VOLUME, field, f"is {quoted(value)}, must be 'true'", "remove the volume: admission adds it")
    for problem in _unserved(volume.csi, at, ATTRIBUTE_SHIM):
        raise Refusal(Rule.VOLUME, problem.field, problem.why, problem.fix)


def _unserved(csi: Csi, at: str, attribute: str) -> Iterator[Problem]:
    if csi.read_only is not True:
        yield Problem(f"{at}.readOnly", "the volume is read-only", "set it to true")
    if csi.fs_type:
        yield Problem(f"{at}.fsType", "cannot be chosen", "remove it")
    if csi.node_publish_secret_ref:
        yield Problem(
            f"{at}.nodePublishSecretRef", "the driver takes no credentials from the pod's author", "remove it"
        )
    for key in csi.volume_attributes or {}:
        if key != attribute:
            why = f"no attribute of this driver; the only one is {attribute}"
            yield Problem(f"{at}.volumeAttributes[{quoted(key)}]", why, "remove it")


def free_name(volumes: Sequence[Volume], wanted: str = VOLUME_NAME) -> str:
    """A name for a volume of ours that no other one has."""
    taken = {volume.name for volume in volumes}
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def mounts_of(place: Place, names: frozenset[str]) -> list[Mount]:
    """A container's mounts of the volumes of these names."""
    return [mount for mount in place.container.volume_mounts or () if mount.name in names]


def check_mounts(place: Place, word: str, path: str, what: str = "the files of the interceptor appear") -> None:
    """Raises Refusal where something else is mounted at `path`, or below it, where nothing can be made.

    `word` is in `path`, and so in every spelling of it; `what` says what is there.
    """
    for index, mount in enumerate(place.container.volume_mounts or ()):
        other = mount.mount_path or ""
        # Few other paths have the word in them.
        if word in other and is_in(same_place(other), same_place(path)):
            why = f"{quoted(other)} of the container {quoted(place.name)} is where {what}"
            volume = quoted(mount.name or "")
            fix = f"mount the volume {volume} elsewhere, or leave the container out"
            raise Refusal(Rule.MOUNT, f"{place.field}.volumeMounts[{index}].mountPath", why, fix)


def is_in(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, both spelled as `same_place` does."""
    return path == folder or folder == "/" or path.startswith(f"{folder}/")
