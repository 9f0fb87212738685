"""What each program of the matrix does under the shim; docs/preload.md shows the rows, test_programs.py holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIXED, MOUNTED = " (prefix)", " (subPath)"
"""End the names of ways that read by the configured prefix, or by a subPath mount, as loads/ and clients.py count."""


@dataclass(frozen=True, slots=True)
class Row:
    """One program, and the ways in which it read: by opening the file anew, by the prefix, by going back to the start
    of what it has open (`held`), and by a subPath mount of the file. `remark` says what else was seen."""

    program: str
    name: str
    """As the page calls it."""
    anew: tuple[str, ...]
    prefixed: tuple[str, ...]
    held: tuple[str, ...] = ()
    mounted: tuple[str, ...] = ()
    remark: str = ""
    has_shim: bool = True

    @property
    def ways(self) -> set[str]:
        """All of them, as they are counted."""
        elsewhere = {f"{way}{PREFIXED}" for way in self.prefixed} | {f"{way}{MOUNTED}" for way in self.mounted}
        return {*self.anew, *self.held, *elsewhere}

    def line(self) -> str:
        """Of the table."""
        cells = (self.name, *map(quoted, (self.anew, self.held, self.prefixed, self.mounted)), self.remark)
        return f"| {' | '.join(cells)} |"


def quoted(ways: tuple[str, ...]) -> str:
    """As a cell of the table."""
    return ", ".join(f"`{way}`" for way in ways) or "-"


ROWS: Final = (
    Row(
        "python",
        "python",
        ("open().read()",),
        ("Path.read_bytes",),
        ("os.lseek, os.read", "os.pread", "file.seek(0)", "text file.seek(0)"),
        ("Path.read_bytes",),
        "`os.stat`, `os.path.exists` find the file by the prefix; `file.seek(0)` comes after a `read()` of all",
    ),
    Row(
        "node",
        "node",
        ("fs.readFileSync",),
        ("fs.promises.readFile", "fs.createReadStream"),
        ("fs.readSync at 0", "FileHandle.read at 0"),
        ("fs.readFileSync",),
        "`fs.existsSync`, `fs.statSync` find the file by the prefix",
    ),
    Row(
        "java",
        "java",
        ("Files.readAllBytes",),
        ("FileInputStream.readAllBytes",),
        ("FileChannel.position(0)", "FileChannel.read at 0", "RandomAccessFile.seek(0)"),
        ("Files.readAllBytes",),
        "`Files.isReadable`, `Files.size` find the file by the prefix",
    ),
    Row(
        "nginx",
        "nginx",
        (),
        ("ssl_certificate and its key",),
        remark="key and certificate in one file, reloads as it rotates: every handshake shows a pair that matches",
    ),
    Row(
        "curl",
        "curl",
        ("--header @file", "--netrc-file", "--cacert"),
        ("--header @file", "--netrc-file", "--cacert"),
        remark="one curl reads authority and password anew for each transfer",
    ),
    Row(
        "psql",
        "psql",
        ("passfile=",),
        ("PGPASSFILE",),
        remark="one psql connects again and again (`\\connect`) as roles whose passwords change: none is refused",
    ),
    Row(
        "musl",
        "a program of musl",
        ("fopen, fread",),
        ("open, read",),
        ("lseek, read", "pread at 0", "rewind, fread", "fseek, fread"),
        ("fopen, fread",),
        "`stat`, `access` find the file by the prefix",
    ),
    Row(
        "busybox",
        "busybox, linked statically",
        ("cat",),
        (),
        (),
        ("cat",),
        remark="**not affected**: it has no prefix, a subPath mount stays as it was; the agent tells of it (`static`)",
        has_shim=False,
    ),
)
