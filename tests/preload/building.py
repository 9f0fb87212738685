"""The shim and the C programs of its tests, each compiled once a session: for glibc, for musl, and with sanitizers."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from hatch_build import ROOT, SHIM, SHIM_FLAGS, SHIM_LINKS
from tests.needs import need, need_program

SOURCES = Path(__file__).parent / "c"
SHIM_SOURCES = sorted((ROOT / "preload").glob("*.c"))
WARNINGS = ("-Wall", "-Wextra", "-Werror")
SANITIZERS = {
    "thread": ("-fsanitize=thread",),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}
# A program that is built with a sanitizer ends with this status where one finds something.
FOUND = 99
OPTIONS = {
    # The shim is before the sanitizer's library, as it is before any other.
    "ASAN_OPTIONS": f"verify_asan_link_order=0:detect_leaks=0:exitcode={FOUND}",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"exitcode={FOUND}:halt_on_error=1",
}


@dataclass(frozen=True)
class Kind:
    """One way to build both: the compiler and flags of the programs, and what is added to those of the shim."""

    name: str
    compiler: str = "gcc"
    flags: tuple[str, ...] = ()

    @property
    def sanitizes(self) -> bool:
        return bool(self.flags)


KINDS = (Kind("glibc"), Kind("musl", "musl-gcc"), *(Kind(name, flags=flags) for name, flags in SANITIZERS.items()))


@dataclass
class Built:
    """Compiles on demand into one folder."""

    folder: Path
    done: dict[str, Path] = field(default_factory=dict)

    def _make(self, name: str, command: list[str]) -> Path:
        made = self.folder / name
        if name not in self.done:
            result = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
            assert not result.returncode, result.stderr
            self.done[name] = made
        return made

    def shim(self, kind: Kind, *more: str) -> Path:
        """The library as it is delivered, or the same sources with a sanitizer or `more` flags."""
        if not kind.sanitizes and not more:
            need(SHIM.exists(), f"{SHIM.relative_to(ROOT)} (make build)")
            return SHIM
        flags = [*(flag for flag in SHIM_FLAGS if flag != "-O2"), *kind.flags, *more]
        sources = [str(source) for source in SHIM_SOURCES]
        name = "-".join(["shim", kind.name, *(flag.strip("-") for flag in more)])
        return self._make(f"{name}.so", ["gcc", "-O1", "-g", *flags, *SHIM_LINKS, *sources])

    def program(self, name: str, kind: Kind, *flags: str) -> Path:
        """The program of tests/preload/c/NAME.c."""
        need_program(kind.compiler)
        made = "-".join([name, kind.name, *(flag.strip("-") for flag in flags)])
        command = [kind.compiler, "-O1", "-g", *WARNINGS, *kind.flags, *flags, str(SOURCES / f"{name}.c"), "-pthread"]
        return self._make(made, command)

    def environment(self, kind: Kind, paths: str, **more: str) -> dict[str, str]:
        """That of a container: the shim is preloaded, and told what is live."""
        here = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "KERNELSECRET_"))}
        return here | OPTIONS | {"LD_PRELOAD": str(self.shim(kind)), "KERNELSECRET_SHIM_PATHS": paths} | more
