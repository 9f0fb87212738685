"""Paths that libFuzzer makes up, each answered as the kernel answers what it stands for; under AddressSanitizer."""

from __future__ import annotations

import os
import subprocess
from itertools import product
from pathlib import Path

from hatch_build import ROOT, SHIM_FLAGS, find_tool
from tests.needs import need
from tests.preload.building import OPTIONS, SHIM_SOURCES, SOURCES
from tests.preload.volume import Volume

SECONDS = int(os.environ.get("FUZZ_SECONDS", "12"))
LEAST_RUNS = 20_000
CALLS = 11
# In the fuzzer's words: app/key, app/sub/../key, //app/./key, the file `one` and below it, long names, live/key, both/.
SEEDS = (
    b"\xb0\x82",
    b"\xb0\x85\x89\x82",
    b"\x8f\x8b\x81\x8a\x82",
    b"\xb0\x88",
    b"\xb0\x88\x8c\x82",
    b"\xb0\xb9",
    b"\xb0\xbe\x8c\xba",
    b"\xb0\x85\x8c\x86",
    b"\x8f\x8c\x80\x8c\x82",
    b"\xb0\x84\x8a",
)
# `-fsanitize=fuzzer` links a main of its own; the shim is in the program itself, where it is found first as well.
SANITIZED = ("-g", "-O1", "-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all")


def compiled(folder: Path) -> Path:
    clang = find_tool("clang", "clang")
    made = subprocess.run([clang, "-print-file-name=lib/linux"], capture_output=True, text=True, check=True)
    need(any(Path(made.stdout.strip()).glob("libclang_rt.fuzzer-*.a")), "clang's fuzzer (libclang-rt-14-dev)")
    objects = []
    for source in SHIM_SOURCES:
        objects.append(folder / f"{source.stem}.o")
        flags = [flag for flag in SHIM_FLAGS if flag not in ("-O2", "-fvisibility=hidden")]
        subprocess.run([clang, *flags, *SANITIZED, "-c", source, "-o", objects[-1]], check=True)
    program = folder / "fuzz"
    flags = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=fuzzer,address,undefined"]
    subprocess.run([clang, *flags, SOURCES / "fuzz.c", *objects, "-o", program], check=True, cwd=ROOT)
    return program


def test_every_path_is_answered_as_the_kernel_answers_what_it_stands_for(tmp_path: Path) -> None:
    root = tmp_path / "r"
    volume = Volume.made(root / "live")
    for name in ("key", "both", "sub/inner", "sub/key"):
        volume.put(name, name)
    app = root / "app"
    (app / "sub").mkdir(parents=True)
    for name in ("own", "both", "sub/own", "one"):
        (app / name).write_text(name)
    (app / "link").symlink_to("loop")
    (app / "loop").symlink_to("link")
    (root / "live" / "link").symlink_to("key")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, (call, seed) in enumerate(product(range(CALLS), SEEDS)):
        (corpus / str(number)).write_bytes(bytes([call]) + seed)
    environment = (
        os.environ
        | OPTIONS
        | {
            "FUZZ_ROOT": str(root),
            "KERNELSECRET_SHIM_PATHS": f"{root}/live:{app}={root}/live:{app}/one={root}/live/key",
        }
    )
    command: list[str | Path] = [
        compiled(tmp_path),
        f"-max_total_time={SECONDS}",
        "-max_len=200",
        "-print_final_stats=1",
        "-close_fd_mask=1",
    ]
    done = subprocess.run(
        [*command, corpus],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = int(done.stderr.partition("stat::number_of_executed_units:")[2].split()[0])
    assert runs > LEAST_RUNS
