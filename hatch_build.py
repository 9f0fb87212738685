"""Builds what is not Python: BPF objects, the shim, the messages of the wire contract, and the binding to libbpf.

As hatchling's build hook it runs at every install and wheel; as a program (`python hatch_build.py`, `make build`) it
rebuilds in place. A part is built again only when its inputs, its command or its compiler changed: each output has a
stamp with their hash in build/stamps. Set KERNELSECRET_BUILD=skip to install without building.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program outside of the environment
    BuildHookInterface = object  # type: ignore[assignment,misc,unused-ignore]

ROOT = Path(__file__).resolve().parent
OBJECTS = ROOT / "agent/kernel/objects"
WIRE = ROOT / "agent/csi/wire"
BINDING = ROOT / "agent/kernel/_libbpf.abi3.so"
SHIM = ROOT / "agent/preload/objects/libkernelsecret.so"
BPF_FLAGS = ("-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror")
# The shim runs in programs of any libc, so it has none: not its headers, its start files or its protector. Tables for
# unwinding stay, since a thread may be cancelled in a call that goes through the shim.
SHIM_FLAGS: tuple[str, ...] = ("-std=gnu11", "-O2", "-fPIC", "-ffreestanding", "-fno-builtin", "-fvisibility=hidden")
SHIM_FLAGS += ("-fno-stack-protector", "-fasynchronous-unwind-tables", "-U_FORTIFY_SOURCE")
SHIM_FLAGS += ("-Wall", "-Wextra", "-Werror")
SHIM_LINKS: tuple[str, ...] = ("-shared", "-nostdlib", f"-Wl,-soname,{SHIM.name}")
SHIM_LINKS += ("-Wl,--hash-style=both,--eh-frame-hdr,--build-id=none,-z,now,-z,relro,-z,noexecstack,-z,nodelete",)
LLVM_VERSIONS = ("", "-19", "-18", "-17", "-16", "-15", "-14")


class BuildError(Exception):
    """The build cannot go on; the text says what is missing or wrong."""


def find_tool(name: str, package: str) -> str:
    """Path of an LLVM tool, newest first after the plain name."""
    for version in LLVM_VERSIONS:
        if path := shutil.which(name + version):
            return path
    raise BuildError(f"{name} not found; install Debian's package `{package}`")


def need_header(header: str, package: str) -> None:
    if not any((Path(root) / header).exists() for root in ("/usr/include", "/usr/local/include")):
        raise BuildError(f"<{header}> not found; install Debian's package `{package}`")


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def fingerprint(inputs: Iterable[Path], *words: str) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for word in words:
        digest.update(word.encode() + b"\0")
    for path in sorted(inputs):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def up_to_date(outputs: list[Path], key: str, make: Callable[[Path], list[Path]]) -> None:
    """Has `make` build into a scratch folder and moves what it returns over `outputs`, unless `key` is their stamp's.

    Moved, not written: a process that runs from the old file keeps it.
    """
    stamp = ROOT / "build/stamps" / outputs[0].name
    if stamp.exists() and stamp.read_text() == key and all(path.exists() for path in outputs):
        return
    print(f"building {', '.join(str(path.relative_to(ROOT)) for path in outputs)}", flush=True)
    stamp.unlink(missing_ok=True)
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch:
        for made, output in zip(make(Path(scratch)), outputs, strict=True):
            output.parent.mkdir(parents=True, exist_ok=True)
            made.replace(output)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)


def build_bpf() -> list[Path]:
    """Compiles bpf/*.bpf.c; DWARF goes, BTF stays (it is what CO-RE and the layout check read)."""
    sources = sorted(ROOT.glob("bpf/*.bpf.c"))
    if not sources:
        return []
    clang, strip = find_tool("clang", "clang"), find_tool("llvm-strip", "llvm")
    need_header("bpf/bpf_helpers.h", "libbpf-dev")
    need_header("linux/bpf.h", "linux-libc-dev")
    arch = {"x86_64": "x86", "aarch64": "arm64"}.get(platform.machine())
    if arch is None:
        raise BuildError(f"the BPF programs are not built for {platform.machine()}: x86_64 or aarch64")
    # With -target bpf clang leaves out Debian's folder of headers for the architecture (asm/types.h).
    include = f"-idirafter/usr/include/{platform.machine()}-linux-gnu"
    flags = [*BPF_FLAGS, f"-D__TARGET_ARCH_{arch}", "-Ibpf", include]
    version = run([clang, "--version"])
    headers = list(ROOT.glob("bpf/*.h"))
    built = []
    for source in sources:
        output = OBJECTS / f"{source.name.removesuffix('.c')}.o"

        def compile_one(scratch: Path, source: Path = source, output: Path = output) -> list[Path]:
            made = scratch / output.name
            run([clang, *flags, "-c", str(source.relative_to(ROOT)), "-o", str(made)])
            run([strip, "-g", str(made)])
            return [made]

        up_to_date([output], fingerprint([source, *headers], version, *flags), compile_one)
        built.append(output)
    return built


def build_shim() -> list[Path]:
    """Compiles preload/*.c into the library that is preloaded into containers of mode `preload`."""
    sources = sorted(ROOT.glob("preload/*.c"))
    if not sources:
        return []
    compiler = os.environ.get("CC", "cc")
    if not shutil.which(compiler):
        raise BuildError("no C compiler; install Debian's package `gcc`")
    if platform.machine() not in ("x86_64", "aarch64"):
        raise BuildError(f"the shim is not built for {platform.machine()}: x86_64 or aarch64")

    def compile_shim(scratch: Path) -> list[Path]:
        made = scratch / SHIM.name
        names = [str(source.relative_to(ROOT)) for source in sources]
        run([compiler, *SHIM_FLAGS, *SHIM_LINKS, "-s", *names, "-o", str(made)])
        made.chmod(0o755)
        return [made]

    inputs = [*sources, *ROOT.glob("preload/*.h")]
    words = (*SHIM_FLAGS, *SHIM_LINKS, run([compiler, "--version"]))
    up_to_date([SHIM], fingerprint(inputs, *words), compile_shim)
    return [SHIM]


def build_wire() -> list[Path]:
    """Makes the messages of agent/csi/*.proto; services are written by hand on grpc's generic handlers.

    A .proto imports another one of ours as "agent/csi/wire/NAME.proto", which is where its module lands.
    """
    protos = sorted(ROOT.glob("agent/csi/*.proto"))
    if not protos:
        return []
    try:
        import grpc_tools
        from grpc_tools import protoc
    except ImportError as error:
        raise BuildError("grpcio-tools not found; install it, or run `make build`") from error
    from importlib.metadata import version

    names = [path.stem for path in protos]
    outputs = [WIRE / f"{name}_pb2{suffix}" for name in names for suffix in (".py", ".pyi")]
    outputs.append(WIRE / "__init__.py")

    def generate(scratch: Path) -> list[Path]:
        command = [
            "protoc",
            f"-Iagent/csi/wire={ROOT / 'agent/csi'}",
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
        ]
        command += [f"--python_out={scratch}", f"--pyi_out={scratch}"]
        if protoc.main([*command, *(f"agent/csi/wire/{path.name}" for path in protos)]):
            raise BuildError("protoc refused the contract in agent/csi (its words are above)")
        package = scratch / "agent/csi/wire"
        (package / "__init__.py").write_text('"""Made by hatch_build.py from agent/csi/*.proto."""\n')
        return [package / output.name for output in outputs]

    up_to_date(outputs, fingerprint(protos, version("grpcio-tools")), generate)
    return outputs


def build_binding() -> list[Path]:
    """Compiles the binding that agent/kernel/binding_build.py describes (`ffibuilder`, cffi in API mode)."""
    script = ROOT / "agent/kernel/binding_build.py"
    if not script.exists():
        return []
    need_header("bpf/libbpf.h", "libbpf-dev")
    if not shutil.which(os.environ.get("CC", "cc")):
        raise BuildError("no C compiler; install Debian's package `gcc`")
    from importlib.metadata import version

    def compile_binding(scratch: Path) -> list[Path]:
        builder = runpy.run_path(str(script))["ffibuilder"]
        try:
            with contextlib.chdir(ROOT):
                return [Path(builder.compile(tmpdir=str(scratch), target=BINDING.name))]
        except Exception as error:
            raise BuildError(f"the binding to libbpf does not compile: {error}") from error

    inputs = [script, *script.parent.glob("*.[ch]"), *ROOT.glob("bpf/*.h")]
    words = (version("cffi"), sys.version, os.environ.get("CFLAGS", ""), run([os.environ.get("CC", "cc"), "--version"]))
    up_to_date([BINDING], fingerprint(inputs, *words), compile_binding)
    return [BINDING]


def build_all() -> list[Path]:
    """Builds every part, also after one of them failed, and tells all failures at once."""
    built, failures = [], []
    for build in (build_wire, build_binding, build_bpf, build_shim):
        try:
            built += build()
        except BuildError as error:
            failures.append(str(error))
    if failures:
        raise BuildError("\n".join(failures))
    return built


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """Builds before hatchling packs, and puts the git-ignored outputs into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("KERNELSECRET_BUILD") == "skip":
            return
        try:
            built = build_all()
        except BuildError as error:
            sys.exit(f"kernelsecret: {error}")
        build_data["artifacts"] += [f"/{path.relative_to(ROOT)}" for path in built]
        build_data["pure_python"] = False
        system = f"linux_{platform.machine()}"
        build_data["tag"] = f"cp311-abi3-{system}" if BINDING in built else f"py3-none-{system}"


if __name__ == "__main__":
    try:
        build_all()
    except BuildError as error:
        sys.exit(f"build failed: {error}")
