"""Mode `preload`: what a pod gets beside its secrets' volume, so that ld.so loads the shim in each container. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from kernelsecret.names import (
    ATTRIBUTE_SHIM,
    DRIVER_NAME,
    ENV_PRELOAD,
    GROUP,
    SHIM_ROOT,
    VOLUME_SHIM,
)
from kernelsecret.problems import quoted
from webhook.policy.environment import environment, hidden_sources
from webhook.policy.operation import Operation
from webhook.policy.pods import Mount, Place, Pod
from webhook.policy.steps import Refusal, Rule, Step, Verdict
from webhook.policy.volumes import check_mounts, check_shim, free_name, mounts_of, shim_volumes

_UNFIT: Final = frozenset(":=")
"""Characters that an entry of KERNELSECRET_SHIM_PATHS cannot hold."""


MOST_ENTRIES: Final = 40
MOST_BYTES: Final = 16 << 10
MOST_PATH: Final = 480
"""Within what the shim has room for (`preload/paths.c`), which passes over the rest."""


class Preload(NamedTuple):
    """What the pod lacks, and what its author should know."""

    operations: tuple[Operation, ...]
    notes: tuple[Step, ...]


def preload(
    pod: Pod,
    chosen: Sequence[Place],
    secrets: frozenset[str],
    path: str,
    prefixes: Sequence[str],
    earlier: frozenset[str],
) -> Preload:
    """For containers that have, or get, the secrets' volume (`secrets` are its names) at `path` or elsewhere. `earlier`
    are those that an earlier call chose. Raises Refusal.
    """
    volumes = pod.spec.volumes or ()
    shims = shim_volumes(volumes)
    for index, volume in shims:
        check_shim(index, volume)
    name = (shims[0][1].name or "") if shims else free_name(volumes, VOLUME_SHIM)
    operations: list[Operation] = []
    notes: list[Step] = []
    if not shims:
        # There are volumes by now: that of the secrets at least.
        operations.append(Operation("/spec/volumes/-", {"name": name, "csi": _CSI}))
    for place in chosen:
        if not any(mount.mount_path == SHIM_ROOT for mount in mounts_of(place, frozenset((name,)))):
            check_mounts(place, GROUP, SHIM_ROOT, "the shim is mounted")
            # There are mounts by now, for the same reason.
            operations.append(Operation(f"{place.path}/volumeMounts/-", {**_MOUNT, "name": name}))
        paths, unmended = shim_paths(place, secrets, path, prefixes)
        notes += unmended
        operations += environment(place, paths, is_ours=place.name in earlier)
        if hidden_sources(place):
            text = f"{place.field}.envFrom is not looked into: an {ENV_PRELOAD} that it gives is replaced by ours"
            notes.append(Step(Rule.ENVIRONMENT, Verdict.NOTE, text))
    return Preload(tuple(operations), tuple(notes))


_CSI: Final[dict[str, Any]] = {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_SHIM: "true"}}
_MOUNT: Final[dict[str, Any]] = {"name": VOLUME_SHIM, "mountPath": SHIM_ROOT, "readOnly": True}


def is_whole(mount: Mount) -> bool:
    """Whether a mount shows all of its volume: one of a single file never sees a rotation."""
    return not mount.sub_path and not mount.sub_path_expr


def shim_paths(place: Place, secrets: frozenset[str], path: str, prefixes: Sequence[str]) -> tuple[str, list[Step]]:
    """The value of KERNELSECRET_SHIM_PATHS for a container, and what it cannot mend. Raises Refusal.

    First the folders where the volume is, whole; then each single file or folder of it that is mounted elsewhere, and
    the interceptor's prefixes, both with where in the first folder their contents are.
    """
    mounts = mounts_of(place, secrets)
    whole = [_whole(place, mount) for mount in mounts if is_whole(mount)] or [path]
    entries, notes = list(dict.fromkeys(whole)), []
    for mount in mounts:
        if is_whole(mount):
            continue
        target = _plain(mount.mount_path or "")
        source = _plain(f"{whole[0]}/{mount.sub_path}") if mount.sub_path else None
        if target is None or source is None or not source.startswith(f"{whole[0]}/"):
            text = (
                f"{place.field} mounts {quoted(mount.name or '')} at {quoted(mount.mount_path or '')} by subPath in a"
            )
            text += " way that the shim cannot follow, so it never sees a rotation"
            notes.append(Step(Rule.MOUNT, Verdict.NOTE, text))
        else:
            entries.append(f"{target}={source}")
    entries += (f"{prefix}={whole[0]}" for prefix in prefixes if prefix not in whole)
    value = ":".join(dict.fromkeys(entries))
    if len(entries) > MOST_ENTRIES or len(value.encode()) > MOST_BYTES:
        why = (
            f"{len(entries)} mounts and prefixes, of {len(value.encode())} bytes, are more than mode `preload` follows"
            f" in one container: {MOST_ENTRIES}, of {MOST_BYTES} bytes"
        )
        raise Refusal(Rule.MOUNT, f"{place.field}.volumeMounts", why, "mount the whole volume in place of its files")
    return value, notes


def _whole(place: Place, mount: Mount) -> str:
    plain = _plain(mount.mount_path or "")
    if plain is None:
        why = f"{quoted(mount.mount_path or '')} is no path that mode `preload` can follow: it has to be absolute,"
        fix = "mount the volume elsewhere, or leave the mount out: admission adds one"
        raise Refusal(Rule.MOUNT, f"{place.field}.volumeMounts", f"{why} without `..`, `:` and `=`, and short", fix)
    return plain


def _plain(path: str) -> str | None:
    """A path with one spelling, None where it is none that the shim takes."""
    if not path.startswith("/") or ".." in path.split("/") or not _UNFIT.isdisjoint(path):
        return None
    if len(path.encode()) > MOST_PATH:
        return None
    return "/" + posixpath.normpath(path).lstrip("/")
