"""Our volume in a pod, and where it is mounted: what is there already, and what stands in its way. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, MOUNT_ROOT, VOLUME_NAME
from kernelsecret.problems import Problem, quoted
from webhook.policy.pods import Csi, Mount, Place, Volume
from webhook.policy.steps import Refusal, Rule


def mount_path(interceptor: str) -> str:
    """Where an interceptor's files are, in every container that has them."""
    return f"{MOUNT_ROOT}/{interceptor}"


def same_place(path: str) -> str:
    """A path with one spelling: `/var/run` is a link to `/run` on most nodes and in most images."""
    plain = posixpath.normpath("/" + path.lstrip("/"))
    return plain.removeprefix("/var") if plain == "/var/run" or plain.startswith("/var/run/") else plain


def our_volumes(volumes: Sequence[Volume]) -> list[tuple[int, Volume]]:
    """Those that our driver serves, with their indexes."""
    return [(index, volume) for index, volume in enumerate(volumes) if volume.is_ours]


def check_volume(index: int, volume: Volume, interceptor: str) -> None:
    """Raises Refusal unless the agent would serve a volume of our driver, for this interceptor."""
    at = f"spec.volumes[{index}].csi"
    assert volume.csi is not None
    if volume.csi.interceptor != interceptor:
        found = quoted(volume.csi.interceptor) if volume.csi.interceptor else "nothing"
        why = f"names {found}, but the pod is given {quoted(interceptor)}"
        fix = "name that one, or remove the volume: admission adds it"
        raise Refusal(Rule.VOLUME, f"{at}.volumeAttributes[{ATTRIBUTE_INTERCEPTOR}]", why, fix)
    for problem in _unserved(volume.csi, at):
        raise Refusal(Rule.VOLUME, problem.field, problem.why, problem.fix)


def _unserved(csi: Csi, at: str) -> Iterator[Problem]:
    if csi.read_only is not True:
        yield Problem(f"{at}.readOnly", "the volume is read-only", "set it to true")
    if csi.fs_type:
        yield Problem(f"{at}.fsType", "cannot be chosen", "remove it")
    if csi.node_publish_secret_ref:
        yield Problem(
            f"{at}.nodePublishSecretRef", "the driver takes no credentials from the pod's author", "remove it"
        )
    for key in csi.volume_attributes or {}:
        if key != ATTRIBUTE_INTERCEPTOR:
            why = f"no attribute of this driver; the only one is {ATTRIBUTE_INTERCEPTOR}"
            yield Problem(f"{at}.volumeAttributes[{quoted(key)}]", why, "remove it")


def free_name(volumes: Sequence[Volume]) -> str:
    """A name for our volume that no other one has."""
    taken = {volume.name for volume in volumes}
    name, number = VOLUME_NAME, 2
    while name in taken:
        name, number = f"{VOLUME_NAME}-{number}", number + 1
    return name


def mounts_of(place: Place, names: frozenset[str]) -> list[Mount]:
    """A container's mounts of the volumes of these names."""
    return [mount for mount in place.container.volume_mounts or () if mount.name in names]


def check_mounts(place: Place, interceptor: str, path: str) -> None:
    """Raises Refusal where something else is mounted at `path`, or below it, where nothing can be made."""
    for index, mount in enumerate(place.container.volume_mounts or ()):
        other = mount.mount_path or ""
        # Whatever its spelling, a path at or below ours has the interceptor's name in it; few others do.
        if interceptor in other and is_in(same_place(other), same_place(path)):
            why = f"{quoted(other)} of the container {quoted(place.name)} is where the files of the interceptor appear"
            volume = quoted(mount.name or "")
            fix = f"mount the volume {volume} elsewhere, or leave the container out"
            raise Refusal(Rule.MOUNT, f"{place.field}.volumeMounts[{index}].mountPath", why, fix)


def is_in(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, both spelled as `same_place` does."""
    return path == folder or folder == "/" or path.startswith(f"{folder}/")
