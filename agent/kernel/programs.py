"""Load the BPF object, or find it again where an earlier agent left it.

Everything is pinned in a bpffs of the agent's own: maps under `maps`, the serving program and the links of the lineage
programs under `programs_<hash of object and settings>`. So what is loaded outlives the agent, and a new build is told
from the old one by its name.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agent.kernel import calls
from agent.kernel._libbpf import ffi, lib
from agent.kernel.layout import LAYOUT_VERSION, About
from agent.kernel.node import NodeFacts
from kernelsecret.errors import Code, KernelSecretError, Refused

OBJECT = Path(__file__).parent / "objects" / "kernelsecret.bpf.o"
MAPS = (
    "about",
    "grants",
    "sessions",
    "sets",
    "files",
    "versions",
    "chunks",
    "binaries",
    "pods",
    "containers",
    "tasks",
    "events",
    "counters",
    "fence",
)
LINEAGE = ("lineage_attach", "lineage_rmdir", "lineage_fork", "lineage_exec")
SERVE = "serve"


@dataclass(frozen=True, slots=True)
class Tuning:
    """Constants of the programs: how long a task stays with a generation, and how many refusals a grant may report."""

    grace_ns: int = 500_000_000
    events_per_second: int = 100


DEFAULT_TUNING = Tuning()


@dataclass(frozen=True, slots=True)
class Programs:
    """Descriptors of the pinned maps and of the serving program."""

    maps: dict[str, int]
    serve: int
    directory: Path

    def others(self) -> list[Path]:
        """Pins of other builds: while there are some, links of live volumes may still run them.

        Also those that an agent left unfinished which died as it loaded them: their lineage programs run.
        """
        pins = self.directory.parent
        return [path for name in ("programs_*", "unfinished_*") for path in pins.glob(name) if path != self.directory]

    def drop_others(self) -> None:
        """Unpin every other build's programs, once no live link uses them."""
        for path in self.others():
            unpin_tree(path)

    def close(self) -> None:
        """Close the descriptors; what is pinned stays."""
        for fd in (*self.maps.values(), self.serve):
            os.close(fd)


def open_programs(
    bpffs: Path, facts: NodeFacts, tuning: Tuning = DEFAULT_TUNING, object_path: Path = OBJECT
) -> Programs:
    """Adopt what is pinned below `bpffs`, or load it; maps of another layout are refused, never touched."""
    maps_directory = bpffs / "maps"
    maps_directory.mkdir(exist_ok=True)
    _refuse_other_layout(maps_directory)
    constants = _constants(facts, tuning)
    directory = bpffs / f"programs_{_fingerprint(object_path, constants)}"
    if not directory.exists():
        _load(object_path, constants, maps_directory, directory)
    maps = {name: calls.get(str(maps_directory / name)) for name in MAPS}
    return Programs(maps, calls.get(str(directory / SERVE)), directory)


def unpin_tree(directory: Path) -> None:
    """Remove a directory of pins."""
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def _constants(facts: NodeFacts, tuning: Tuning) -> dict[str, bytes]:
    version, number = (facts.cgroup.version, facts.cgroup.number) if facts.cgroup else (2, 0)
    return {
        "cgroup_version": version.to_bytes(4, "little"),
        "cgroup_hierarchy": number.to_bytes(4, "little"),
        "node_mount_ns": facts.mount_ns.to_bytes(4, "little"),
        "round_grace_ns": tuning.grace_ns.to_bytes(8, "little"),
        "events_per_second": tuning.events_per_second.to_bytes(4, "little"),
    }


def _fingerprint(object_path: Path, constants: dict[str, bytes]) -> str:
    try:
        digest = hashlib.sha256(object_path.read_bytes())
    except FileNotFoundError as missing:
        raise KernelSecretError(f"{object_path.name}: the BPF object is not built; run `make build`") from missing
    for name, value in sorted(constants.items()):
        digest.update(name.encode() + value)
    return digest.hexdigest()[:16]


def _refuse_other_layout(maps_directory: Path) -> None:
    pin = maps_directory / "about"
    if not pin.exists():
        return
    fd = calls.get(str(pin))
    try:
        about = calls.lookup(fd, _zero(), About)
    finally:
        os.close(fd)
    if about is not None and about.layout_version not in (0, LAYOUT_VERSION):
        raise Refused(
            Code.FAILED_PRECONDITION,
            "layout",
            f"this node's maps have layout {about.layout_version}, this agent has layout {LAYOUT_VERSION}",
            "drain the node's pods that hold our volumes, then start this agent again",
        )


def _zero() -> calls.Key32:
    return calls.Key32(0)


def _load(object_path: Path, constants: dict[str, bytes], maps_directory: Path, directory: Path) -> None:
    lib.ks_log_clear()
    bpf_object = lib.ks_object_open(str(object_path).encode(), str(maps_directory).encode())
    if bpf_object == ffi.NULL:
        raise calls.KernelError("object_open", ffi.errno, _log())
    links = []
    unfinished = directory.with_name("unfinished_" + directory.name)
    try:
        for name, value in constants.items():
            calls.checked("set_constant", lib.ks_set_constant(bpf_object, name.encode(), value, len(value)))
        result = lib.bpf_object__load(bpf_object)
        if result < 0:
            raise calls.KernelError("prog_load", -result, _log())
        if unfinished.exists():
            unpin_tree(unfinished)
        unfinished.mkdir()
        for name in LINEAGE:
            link = lib.ks_attach(bpf_object, name.encode())
            if link == ffi.NULL:
                raise calls.KernelError("attach " + name, ffi.errno, _log())
            links.append(link)
            calls.checked("link_pin", lib.bpf_link__pin(link, str(unfinished / name).encode()))
        serve = calls.checked("program", lib.ks_program_fd(bpf_object, SERVE.encode()))
        calls.pin(serve, str(unfinished / SERVE))
        unfinished.rename(directory)
    except BaseException:
        if unfinished.exists():
            unpin_tree(unfinished)
        raise
    finally:
        for link in links:
            lib.bpf_link__destroy(link)
        lib.bpf_object__close(bpf_object)


def _log() -> str:
    text = ffi.string(lib.ks_log()).decode(errors="replace").strip()
    return " | ".join(text.splitlines()[-4:])
