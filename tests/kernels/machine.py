"""A machine of another kernel: QEMU without KVM, this machine's file system read-only as its root.

So the guest runs the very same checkout, environment and build as this machine; only the kernel differs. It writes to
memory, and to one folder that is shared for the report.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernels.images import Image
from tests.needs import need_program

PROJECT = Path(__file__).parents[2]
GUEST = Path(__file__).with_name("guest.py")
INIT = Path(__file__).with_name("init.sh")
REPORT = "report.json"
MEMORY_MB = 2048
# Software emulation is twenty times slower than this machine, which may be busy besides.
LONGEST_S = 3600


@dataclass(frozen=True, slots=True)
class Boot:
    """How a guest is booted. `cgroup` is the version that pods are found in; `command` runs as a child of its init."""

    lockdown: str
    cgroup: int
    command: tuple[str, ...]

    def parameters(self) -> str:
        """The kernel's command line."""
        words = ["console=ttyS0", "panic=-1", "quiet", "loglevel=4", f"ks_cgroup={self.cgroup}"]
        if self.lockdown != "none":
            words.append(f"lockdown={self.lockdown}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a guest: its report, and all that it said."""

    kernel: str
    lockdown: str
    status: int
    output: str


def newc(name: str, data: bytes, mode: int, number: int) -> bytes:
    """One entry of a cpio archive of the kind that the kernel unpacks (`newc`)."""
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def initramfs(image: Image) -> bytes:
    """busybox, the modules, and a script that mounts this machine's files and starts guest.py from them."""
    directory, program, plain = 0o40755, 0o100755, 0o100644
    entries = [(name, b"", directory) for name in ("bin", "dev", "proc", "modules", "machine")]
    entries.append(("bin/busybox", need_program("busybox").read_bytes(), program))
    entries.append(("init", INIT.read_bytes(), program))
    entries += [
        (f"modules/{place:02}-{path.name}", path.read_bytes(), plain) for place, path in enumerate(image.modules)
    ]
    packed = b"".join(newc(*entry, number) for number, entry in enumerate(entries, start=1))
    return packed + newc("TRAILER!!!", b"", 0, 0)


def run(image: Image, boot: Boot, folder: Path) -> Ended:
    """Boot, let the guest run `boot.command`, and wait until it has powered off."""
    shared = folder / "shared"
    shared.mkdir()
    archive, console = folder / "initramfs", folder / "console"
    archive.write_bytes(initramfs(image))
    order = {"command": boot.command, "project": str(PROJECT)}
    (shared / "order.json").write_text(json.dumps(order))
    (shared / "start").write_text(f"{sys.executable}\n{GUEST}\n")
    share = "local,security_model=none,multidevs=remap"
    command = [
        str(need_program("qemu-system-x86_64")), "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
        "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", f"file:{console}", "-kernel", str(image.kernel), "-initrd", str(archive),
        "-append", boot.parameters(),
        "-virtfs", f"{share},path=/,mount_tag=machine,readonly=on",
        "-virtfs", f"{share},path={shared},mount_tag=shared",
    ]  # fmt: skip
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"the guest did not end in {LONGEST_S} s\n{_tail(console, shared)}") from late
    report = shared / REPORT
    assert report.exists(), f"no report of the guest\n{ended.stderr}\n{_tail(console, shared)}"
    found: dict[str, Any] = json.loads(report.read_text())
    output = (shared / "output").read_text(errors="replace")
    shutil.rmtree(shared)
    return Ended(found["kernel"], found["lockdown"], found["status"], output)


def _tail(console: Path, shared: Path) -> str:
    texts = [path.read_text(errors="replace")[-4000:] for path in (console, shared / "output") if path.exists()]
    return "\n".join(texts)
