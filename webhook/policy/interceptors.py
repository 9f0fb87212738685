"""The interceptors that are known, and which of them select a pod. Pure: whoever watches puts and removes.

With hundreds of them, asking each whether it selects a pod would cost more than the rest of a review. So those that
select a namespace are found once for each namespace, and are then sorted by one label that their pods must have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kernelsecret.interceptor import SecretInterceptor

_REMEMBERED = 4096
"""Namespaces whose interceptors are kept."""


class _Sorted:
    """The interceptors that select one namespace, by a label that a pod must have for them to select it."""

    def __init__(self, labels: Mapping[str, str], interceptors: Iterable[SecretInterceptor]) -> None:
        self.labels = labels
        self._by_label: dict[tuple[str, str], list[SecretInterceptor]] = {}
        self._others: list[SecretInterceptor] = []
        for one in interceptors:
            if one.metadata.deletion_timestamp or not one.spec.namespace_selector.matches(labels):
                continue
            wanted = one.spec.pod_selector.match_labels
            if wanted:
                self._by_label.setdefault(next(iter(wanted.items())), []).append(one)
            else:
                self._others.append(one)

    def selecting(self, pod_labels: Mapping[str, str]) -> list[SecretInterceptor]:
        found = [one for one in self._others if one.spec.pod_selector.matches(pod_labels)]
        for pair in pod_labels.items():
            for one in self._by_label.get(pair, ()):
                if one.spec.pod_selector.matches(pod_labels):
                    found.append(one)
        return found


class Interceptors:
    """A set of interceptors by name. Only valid ones are put here (`kernelsecret.validation.read_interceptor`)."""

    def __init__(self, interceptors: Iterable[SecretInterceptor] = ()) -> None:
        self.generation = 0
        self._known: dict[str, SecretInterceptor] = {}
        self._sorted: dict[str, _Sorted] = {}
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

    def selecting(
        self, namespace: str, namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]
    ) -> list[SecretInterceptor]:
        """All that select the pod and are not being deleted, in no particular order.

        `namespace_labels` is a new mapping whenever the labels change: its identity is what is compared.
        """
        known = self._sorted.get(namespace)
        if known is None or known.labels is not namespace_labels:
            if len(self._sorted) >= _REMEMBERED:
                self._sorted.clear()
            known = self._sorted[namespace] = _Sorted(namespace_labels, self._known.values())
        return known.selecting(pod_labels)

    def _changed(self) -> None:
        self.generation += 1
        self._sorted.clear()


def _decides(interceptor: SecretInterceptor) -> tuple[object, ...]:
    """All but the status, which changes with every pod."""
    meta = interceptor.metadata
    return (meta.uid, meta.deletion_timestamp, interceptor.spec)
