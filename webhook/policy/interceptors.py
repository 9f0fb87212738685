"""The interceptors that are known, and which of them select a pod. Pure: whoever watches puts and removes.

With hundreds of them, asking each whether it selects a pod would cost more than the rest of a review. So they are
sorted by one label that the namespace must have and one that the pod must have; only those of a pod's own labels are
asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.selectors import LabelSelector

_Pair = tuple[str, str]
_Key = tuple[_Pair | None, _Pair | None]


class Interceptors:
    """A set of interceptors by name. Only valid ones are put here (`kernelsecret.validation.read_interceptor`)."""

    def __init__(self, interceptors: Iterable[SecretInterceptor] = ()) -> None:
        self.generation = 0
        self._known: dict[str, SecretInterceptor] = {}
        self._sorted: dict[_Key, list[SecretInterceptor]] | None = None
        for one in interceptors:
            self.put(one)

    def put(self, interceptor: SecretInterceptor) -> None:
        """Add an interceptor, or take its new state."""
        known = self._known.get(interceptor.metadata.name)
        self._known[interceptor.metadata.name] = interceptor
        if known is None or _decides(known) != _decides(interceptor):
            self._changed()

    def remove(self, name: str) -> None:
        """Forget an interceptor; one that is not known is no error."""
        if self._known.pop(name, None) is not None:
            self._changed()

    def get(self, name: str) -> SecretInterceptor | None:
        """The interceptor of that name, also one that is being deleted."""
        return self._known.get(name)

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[SecretInterceptor]:
        return iter(self._known.values())

    def selecting(self, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> list[SecretInterceptor]:
        """All that select the pod and are not being deleted, in no particular order."""
        if self._sorted is None:
            self._sorted = _sorted(one for one in self._known.values() if not one.metadata.deletion_timestamp)
        # A pod can have 50,000 labels: what there is less of is looked through.
        if len(self._sorted) <= (1 + len(namespace_labels)) * (1 + len(pod_labels)):
            found = [
                bucket
                for (space, pod), bucket in self._sorted.items()
                if _has(namespace_labels, space) and _has(pod_labels, pod)
            ]
        else:
            of_pod = (None, *pod_labels.items())
            found = [
                self._sorted.get((space, pod), []) for space in (None, *namespace_labels.items()) for pod in of_pod
            ]
        return [
            one
            for bucket in found
            for one in bucket
            if one.spec.namespace_selector.matches(namespace_labels) and one.spec.pod_selector.matches(pod_labels)
        ]

    def _changed(self) -> None:
        self.generation += 1
        self._sorted = None


def _sorted(interceptors: Iterable[SecretInterceptor]) -> dict[_Key, list[SecretInterceptor]]:
    """By the rarest label of each selector, None where a selector asks for no value of its own."""
    every = list(interceptors)
    spaces = Counter(pair for one in every for pair in one.spec.namespace_selector.match_labels.items())
    pods = Counter(pair for one in every for pair in one.spec.pod_selector.match_labels.items())
    made: dict[_Key, list[SecretInterceptor]] = {}
    for one in every:
        key = _rarest(one.spec.namespace_selector, spaces), _rarest(one.spec.pod_selector, pods)
        made.setdefault(key, []).append(one)
    return made


def _rarest(selector: LabelSelector, counts: Counter[_Pair]) -> _Pair | None:
    return min(selector.match_labels.items(), key=counts.__getitem__, default=None)


def _has(labels: Mapping[str, str], pair: _Pair | None) -> bool:
    return pair is None or labels.get(pair[0]) == pair[1]


def _decides(interceptor: SecretInterceptor) -> tuple[object, ...]:
    """All but the status, which changes with every pod."""
    meta = interceptor.metadata
    return (meta.uid, meta.deletion_timestamp, interceptor.spec)
