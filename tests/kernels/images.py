"""Other kernels to boot: Debian's packages, taken apart into a cache outside the checkout. None is installed."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.needs import need, need_program

# The series that are tried, each by the package that names its newest kernel on Debian 12.
SERIES = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
# What the guest loads to see this machine's files; what these need comes along.
WANTED_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
NEEDED = re.compile(r"/boot/vmlinuz-|/kernel/(fs/(9p|fscache|netfs|overlayfs)|net/9p|drivers/virtio)/[^/]*\.ko(\.xz)?$")
DOWNLOAD_S = 300


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel to boot: `modules` are plain files, in the order in which they can be loaded."""

    release: str
    kernel: Path
    modules: tuple[Path, ...]


def cache_folder() -> Path:
    """Where images stay between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelsecret" / "kernels"


def image(series: str) -> Image:
    """The newest kernel of `series` that Debian has; without the archive, the newest in the cache."""
    need_program("dpkg-deb")
    package = _package(series)
    if package is None:
        kept = sorted(cache_folder().glob(f"linux-image-{series}.*"), key=lambda folder: folder.stat().st_mtime)
        need(kept, f"Debian's package lists (apt-get update), for {SERIES[series]}")
        return _read(kept[-1])
    folder = cache_folder() / package
    if not folder.is_dir():
        _fetch(package, folder)
    return _read(folder)


def _package(series: str) -> str | None:
    """The package of the newest kernel of `series`: its name has the version in it."""
    apt_cache = shutil.which("apt-cache")
    if apt_cache is None:
        return None
    found = subprocess.run([apt_cache, "depends", SERIES[series]], capture_output=True, text=True)
    names = re.findall(rf"^\s*Depends: (linux-image-{re.escape(series)}\.\S+)$", found.stdout, re.MULTILINE)
    return names[0] if names else None


def _fetch(package: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        done = subprocess.run(
            ["apt-get", "-o", "APT::Sandbox::User=root", "download", package],
            cwd=scratch, capture_output=True, text=True, timeout=DOWNLOAD_S,
        )  # fmt: skip
        need(done.returncode == 0, f"{package} from Debian's archive ({done.stderr.strip()[-200:]})")
        unpacked = Path(scratch) / "unpacked"
        _unpack(next(Path(scratch).glob("*.deb")), unpacked)
        unpacked.rename(folder)


def _unpack(package: Path, folder: Path) -> None:
    """The kernel and its modules that a guest may need, uncompressed, without their folders."""
    folder.mkdir()
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                source = archive.extractfile(member) if NEEDED.search(member.name) else None
                if source is None:
                    continue
                name, data = Path(member.name).name, source.read()
                if name.endswith(".xz"):
                    name, data = name.removesuffix(".xz"), lzma.decompress(data)
                (folder / name).write_bytes(data)
    assert process.returncode == 0, f"dpkg-deb could not read {package.name}"


def _read(folder: Path) -> Image:
    kernel = next(folder.glob("vmlinuz-*"))
    there = {path.stem.replace("-", "_"): path for path in folder.glob("*.ko")}
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        path = there.get(name)
        if path is None or name in ordered:  # built into this kernel, or already loaded
            return
        for needed in _depends(path):
            add(needed)
        ordered[name] = path

    for name in WANTED_MODULES:
        add(name)
    return Image(kernel.name.removeprefix("vmlinuz-"), kernel, tuple(ordered.values()))


def _depends(module: Path) -> list[str]:
    """What a module says that it needs (modinfo's `depends`)."""
    found = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return [name.replace("-", "_") for name in found[1].decode().split(",") if name] if found else []
