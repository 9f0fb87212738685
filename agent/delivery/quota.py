"""Who has how much of this node, counted before the kernel is touched. Pure: no I/O, no clock.

A value counts for each volume that shows it, although it is stored once: the bound is on what a namespace may ask for,
and must not depend on who else asks for the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.model import Quota
from kernelsecret.errors import Code, Refused

_POD = "spec.limits.pod"
_NAMESPACE = "spec.limits.namespace"


@dataclass(frozen=True, slots=True)
class Usage:
    """What is reserved, in bytes, files and volumes."""

    bytes_: int = 0
    files: int = 0
    volumes: int = 0

    def plus(self, bytes_: int, files: int, volumes: int) -> Usage:
        """The sum; negative numbers take away."""
        return Usage(self.bytes_ + bytes_, self.files + files, self.volumes + volumes)


@dataclass(frozen=True, slots=True)
class _Entry:
    namespace: str
    pod_uid: str
    bytes_: int
    files: int
    namespace_quota: Quota
    pod_quota: Quota


class Ledger:
    """Every reservation of this node. A call either is counted as a whole or changes nothing."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._namespaces: dict[str, Usage] = {}
        self._pods: dict[str, Usage] = {}

    def reserve(
        self,
        namespace: str,
        pod_uid: str,
        volume_id: str,
        bytes_: int,
        files: int,
        namespace_quota: Quota,
        pod_quota: Quota,
    ) -> None:
        """Count a volume in, or again with other numbers and quotas.

        Raises Refused: RESOURCE_EXHAUSTED with the bound named, ALREADY_EXISTS where the volume is another pod's.
        """
        entry = _Entry(namespace, pod_uid, bytes_, files, namespace_quota, pod_quota)
        self._owned(volume_id, entry)
        self._put(volume_id, entry, checked=True)

    def adopt(
        self,
        namespace: str,
        pod_uid: str,
        volume_id: str,
        bytes_: int,
        files: int,
        namespace_quota: Quota,
        pod_quota: Quota,
    ) -> None:
        """Count in what is there already, also beyond a quota: after a restart it is too late to refuse.

        Raises Refused(ALREADY_EXISTS) where the volume is another pod's.
        """
        entry = _Entry(namespace, pod_uid, bytes_, files, namespace_quota, pod_quota)
        self._owned(volume_id, entry)
        self._put(volume_id, entry, checked=False)

    def resize(self, volume_id: str, bytes_: int) -> None:
        """Its values are now of `bytes_` in all. Less is always granted.

        Raises Refused: RESOURCE_EXHAUSTED with the bound named, NOT_FOUND for a volume that has nothing reserved.
        """
        self._put(volume_id, self._resized(volume_id, bytes_), checked=True)

    def settle(self, volume_id: str, bytes_: int) -> None:
        """Like `resize`, also beyond a quota: the values are there already."""
        self._put(volume_id, self._resized(volume_id, bytes_), checked=False)

    def release(self, volume_id: str) -> None:
        """The volume has ended. Idempotent."""
        entry = self._entries.pop(volume_id, None)
        if entry is not None:
            _add(self._namespaces, entry.namespace, -entry.bytes_, -entry.files, -1)
            _add(self._pods, entry.pod_uid, -entry.bytes_, -entry.files, -1)

    def usage(self, namespace: str) -> Usage:
        """What the namespace has reserved."""
        return self._namespaces.get(namespace, Usage())

    def pod_usage(self, pod_uid: str) -> Usage:
        """What the pod has reserved."""
        return self._pods.get(pod_uid, Usage())

    def by_namespace(self) -> dict[str, Usage]:
        """Every namespace that has something reserved."""
        return dict(self._namespaces)

    def quota(self, namespace: str) -> Quota:
        """The tightest bounds that hold for the namespace; its volumes may come from several interceptors."""
        quotas = [entry.namespace_quota for entry in self._entries.values() if entry.namespace == namespace]
        return Quota(
            _least([quota.bytes_ for quota in quotas]),
            _least([quota.files for quota in quotas]),
            _least([quota.volumes for quota in quotas]),
        )

    def _resized(self, volume_id: str, bytes_: int) -> _Entry:
        known = self._entries.get(volume_id)
        if known is None:
            raise Refused(Code.NOT_FOUND, "volume_id", "has nothing reserved")
        return replace(known, bytes_=bytes_)

    def _owned(self, volume_id: str, entry: _Entry) -> None:
        known = self._entries.get(volume_id)
        if known is not None and (known.namespace, known.pod_uid) != (entry.namespace, entry.pod_uid):
            raise Refused(Code.ALREADY_EXISTS, "volume_id", "is reserved for another pod")

    def _put(self, volume_id: str, entry: _Entry, *, checked: bool) -> None:
        if entry.bytes_ < 0 or entry.files < 0:
            raise ValueError("bytes and files must not be negative")
        known = self._entries.get(volume_id)
        bytes_ = entry.bytes_ - (known.bytes_ if known else 0)
        files = entry.files - (known.files if known else 0)
        volumes = 0 if known else 1
        if checked:
            _check(self.pod_usage(entry.pod_uid), bytes_, files, volumes, entry.pod_quota, _POD)
            _check(self.usage(entry.namespace), bytes_, files, volumes, entry.namespace_quota, _NAMESPACE)
        self._entries[volume_id] = entry
        _add(self._namespaces, entry.namespace, bytes_, files, volumes)
        _add(self._pods, entry.pod_uid, bytes_, files, volumes)


def _check(used: Usage, bytes_: int, files: int, volumes: int, quota: Quota, at: str) -> None:
    """Only what grows is refused: a bound that was lowered must not keep anyone from giving back."""
    for name, has, more, most in (
        ("bytes", used.bytes_, bytes_, quota.bytes_),
        ("files", used.files, files, quota.files),
        ("volumes", used.volumes, volumes, quota.volumes),
    ):
        if most is not None and more > 0 and has + more > most:
            why = f"{has} in use and {more} more would be over {most}"
            fix = "raise the bound in the interceptor, or ask for less"
            raise Refused(Code.RESOURCE_EXHAUSTED, f"{at}.{name}", why, fix)


def _add(table: dict[str, Usage], key: str, bytes_: int, files: int, volumes: int) -> None:
    total = table.get(key, Usage()).plus(bytes_, files, volumes)
    if total.volumes:
        table[key] = total
    else:
        del table[key]


def _least(bounds: list[int | None]) -> int | None:
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known else None
