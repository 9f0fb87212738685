"""What this version can do: modes, the engines that each works on, and sources. The one place to extend."""

from __future__ import annotations

from typing import Final

from kernelsecret.interceptor import InterceptorSpec, Mode, Unenforced

SERVED_MODES: Final = (Mode.EBPF,)
SERVED_SOURCES: Final = ("file", "vault", "kubernetes")

ENFORCING_ENGINES: Final = ("iter", "rewrite")
"""Engines on which the kernel judges every reader."""
OTHER_ENGINES: Final = ("tmpfs",)
"""Engines that serve but cannot hold the access rule."""
ALL_ENGINES: Final = (*ENFORCING_ENGINES, *OTHER_ENGINES)


def engines_for(mode: Mode, spec: InterceptorSpec) -> tuple[str, ...]:
    """Values of the node label `kernelsecret.io/engine` on which a mode works for an interceptor, sorted."""
    if mode not in SERVED_MODES:
        return ()
    return ALL_ENGINES if spec.access.unenforced is Unenforced.ALLOW else ENFORCING_ENGINES
