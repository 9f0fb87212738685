"""System calls on a secret file beside open, read and close: what each gives, and what to do instead.

test_readers.py holds every row to the kernel, docs/readers.md shows the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

# What the calls are tried on.
VALUE = b"0123456789"
SCRIPT = """
import ctypes, errno, mmap, os, select, sys
path = sys.argv[1]
fd = os.open(path, os.O_RDONLY)
out = os.memfd_create("out")
into, from_ = os.pipe()
try:
    print(eval(sys.argv[2]))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@dataclass(frozen=True, slots=True)
class Call:
    """`expression` is Python, on `fd` and `path`; `gives` is the name of its errno, or what it returns."""

    name: str
    expression: str
    gives: str
    instead: str


CALLS = (
    Call(
        "`stat`: the size", "os.stat(path).st_size", "10", "the size is true, so a buffer of that size holds the value"
    ),
    Call("`readv`", "os.readv(fd, [bytearray(4), bytearray(9)])", "10", "works as `read`"),
    Call(
        "`lseek`, `fseek`, `rewind`",
        "os.lseek(fd, 0, os.SEEK_END)",
        "ESPIPE",
        "take the size from `stat`; open again to begin anew",
    ),
    Call(
        "`pread` at an offset",
        "os.pread(fd, 4, 5)",
        "b'0123'",
        "**the offset is ignored, without an error**: read in sequence",
    ),
    Call("`mmap`", "mmap.mmap(fd, 10, prot=mmap.PROT_READ)", "ENODEV", "read it"),
    Call(
        "`sendfile`", "os.sendfile(out, fd, 0, 10)", "EINVAL", "`read` and `write`, as most programs do by themselves"
    ),
    Call("`splice`", "os.splice(fd, from_, 10)", "EINVAL", "the same"),
    Call("`copy_file_range`", "os.copy_file_range(fd, out, 10)", "EXDEV", "the same"),
    Call("`open` with `O_DIRECT`", "os.open(path, os.O_RDONLY | os.O_DIRECT)", "EINVAL", "open it without"),
    Call("`open` for writing", "os.open(path, os.O_WRONLY)", "EROFS", "a volume is read-only"),
    Call(
        "`epoll_ctl`",
        "select.epoll().register(fd)",
        "EPERM",
        "watch the file by inotify: IN_MODIFY comes with each rotation",
    ),
    Call(
        "`read` again after the end",
        "(os.read(fd, 99), os.read(fd, 99))[1]",
        "b''",
        "open the file again to see a new version",
    ),
)
