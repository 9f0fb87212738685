"""What this version can do: modes, what each needs of a node, and sources. The one place to extend."""

from __future__ import annotations

from typing import Final, NamedTuple

from kernelsecret.interceptor import InterceptorSpec, Mode, Unenforced
from kernelsecret.names import LABEL_ENGINE, LABEL_IDMAPPED

SERVED_SOURCES: Final = ("file", "vault", "kubernetes")

UNENFORCED_MODES: Final = (Mode.PRELOAD, Mode.VAULT_AGENT)
"""Modes that show ordinary files wherever they work, so that none of them can hold the access rule."""

ENFORCING_ENGINES: Final = ("iter", "rewrite")
"""Engines on which the kernel judges every reader."""
OTHER_ENGINES: Final = ("tmpfs",)
"""Engines that serve but cannot hold the access rule."""
ALL_ENGINES: Final = (*ENFORCING_ENGINES, *OTHER_ENGINES)

IDMAPPED: Final = "tmpfs"
"""The value of the node label `kernelsecret.io/idmapped` that says yes: volumes of ordinary files can be idmapped."""


class Needs(NamedTuple):
    """What a mode needs of a node: one of the engines, and that a pod's user namespace was seen to work there.

    Without engines it works on every node, with an agent of ours or without.
    """

    engines: tuple[str, ...]
    idmapped: bool = False

    @property
    def labels(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The node labels that say so, and the values that will do."""
        if not self.engines:
            return ()
        engine = (LABEL_ENGINE, self.engines)
        return (engine, (LABEL_IDMAPPED, (IDMAPPED,))) if self.idmapped else (engine,)

    def __str__(self) -> str:
        return " and ".join(f"{label} {either(values)}" for label, values in self.labels)


ANYWHERE: Final = Needs(())


def is_waived(spec: InterceptorSpec) -> bool:
    """Whether the interceptor says in writing that its access rule need not be held."""
    return spec.access.unenforced is Unenforced.ALLOW


def needs(mode: Mode, spec: InterceptorSpec, *, host_users: bool = True) -> Needs | None:
    """What a node must have for a mode to work for an interceptor; None where it works on no node.

    Without `host_users` the pod has a user namespace of its own: bpffs has no idmapped mounts, ordinary files may.
    """
    if mode is Mode.EBPF:
        if host_users:
            return _ALL if is_waived(spec) else _ENFORCING
        return _OTHER_IDMAPPED if is_waived(spec) else None
    if not is_waived(spec):
        return None
    if mode is Mode.VAULT_AGENT:
        return ANYWHERE
    return _ALL if host_users else _ALL_IDMAPPED


_ALL: Final = Needs(ALL_ENGINES)
_ENFORCING: Final = Needs(ENFORCING_ENGINES)
_ALL_IDMAPPED: Final = Needs(ALL_ENGINES, True)
_OTHER_IDMAPPED: Final = Needs(OTHER_ENGINES, True)


def by_kernel_alone(wanted: Needs) -> Needs | None:
    """What is left of needs of `ebpf` where ordinary files are for another mode; None where nothing is."""
    engines = tuple(engine for engine in wanted.engines if engine in ENFORCING_ENGINES)
    return wanted._replace(engines=engines) if engines else None


def either(words: tuple[str, ...]) -> str:
    """Words of which one will do."""
    return " or ".join(f"`{word}`" for word in words)
