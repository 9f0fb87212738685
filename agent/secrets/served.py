"""How the secrets of each interceptor do on this node, in counts of pods: for the interceptor's status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.delivery.volumes import Volumes
from agent.model import SecretRef, VolumePlan
from agent.observe.conditions import Conditions, Reason
from agent.secrets.contents import Contents
from agent.secrets.readers import ReadBook, Standing
from kernelsecret.node_api import ServedSecret

Key = tuple[str, str]
"""The interceptor's name, and that of the secret in its spec."""


@dataclass(slots=True)
class _Counted:
    pods: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    behind: set[str] = field(default_factory=set)
    message: str = ""

    def fail(self, pod: str, message: str) -> None:
        self.failing.add(pod)
        self.message = self.message or message


class ServedSecrets:
    """Counts when it is asked. Use it on one event loop."""

    def __init__(self, volumes: Volumes, readers: ReadBook, conditions: Conditions, contents: Contents) -> None:
        self._volumes, self._readers, self._conditions, self._contents = volumes, readers, conditions, contents

    def __call__(self) -> list[ServedSecret]:
        """Each secret that some pod shows, or waits for; sorted. Never a value."""
        counted: dict[Key, _Counted] = {}
        wrong = self._wrong()
        behind = {ref: self._behind(ref) for ref in self._volumes.refs()}
        for state in self._volumes.all():
            pod = state.plan.pod.uid
            for key, ref in _secrets(state.plan):
                one = counted.setdefault(key, _Counted())
                one.pods.add(pod)
                if pod in behind[ref]:
                    one.behind.add(pod)
                if ref in wrong and not state.ended:
                    one.fail(pod, wrong[ref])
        for plan, refused_ref, message in self._contents.refused():
            for key, ref in _secrets(plan):
                if ref == refused_ref:
                    one = counted.setdefault(key, _Counted())
                    one.pods.add(plan.pod.uid)
                    one.fail(plan.pod.uid, message)
        return [_served(key, one) for key, one in sorted(counted.items())]

    def _wrong(self) -> Mapping[SecretRef, str]:
        by_name = {str(ref): ref for ref in self._volumes.refs()}
        told = [one for one in self._conditions.holding() if one.reason in (Reason.SOURCE_DOWN, Reason.ROTATION_FAILED)]
        return {by_name[one.subject]: one.why for one in told if one.subject in by_name}

    def _behind(self, ref: SecretRef) -> set[str]:
        return {reader.pod.uid for reader in self._readers.readers(ref) if reader.standing is Standing.BEHIND}


def _secrets(plan: VolumePlan) -> set[tuple[Key, SecretRef]]:
    """Those that the plan has a name for: one that an earlier version of the agent wrote down has none."""
    return {((plan.interceptor, file.secret), file.ref) for file in plan.files if file.secret}


def _served(key: Key, one: _Counted) -> ServedSecret:
    behind = one.behind - one.failing
    return ServedSecret(
        interceptor=key[0],
        secret=key[1],
        pods=len(one.pods),
        up_to_date=len(one.pods - one.failing - behind),
        behind=len(behind),
        failing=len(one.failing),
        message=one.message,
    )
