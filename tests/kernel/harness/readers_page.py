"""docs/readers.md, made of the tables that the kernel tests hold: `python -m tests.kernel.harness.readers_page`."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.harness.calls import CALLS
from tests.kernel.harness.readers import READERS

PAGE = Path(__file__).parents[3] / "docs" / "readers.md"

HEAD = """\
# Programs that read secrets

A secret file of the engine `iter` is read by `open`, `read` and `close`, so unmodified programs read it. Each row below
was tried with the real program in a pod, by `tests/kernel/test_readers.py`: it reads a secret, reads the rotated one,
and is refused (here as a shell that entered the container from outside, under `access.from: app`). This page is made
of the rows of that test; what stands here is what Debian 12's versions do.

## What each does on refusal

The kernel refuses a read with `E2BIG` ("{too_long}"), and hands out no byte. Most programs stop there.
**Those in bold do not**: they do not look at the error of `read`, and go on as though the secret were empty. What then
fails, fails later and elsewhere: an empty password, a request without a token. Where a secret is read by one of them,
check that it is not empty (`[ -n "$v" ]`), or read it by another way of the same table.

A program that may not even open the file, because of the file's mode and owner, gets `EACCES` as from any file.
Each refusal is counted, whatever the program makes of it; the audit log and `kernelsecret-ctl trace` tell of up to 100
a second for each volume.

| program | how it reads | on refusal |
|---|---|---|
"""

DECEIVED = """
nginx, psql and other users of OpenSSL read a refused certificate as an empty file: they fail, but what they say ("no
start line") does not name the reason. `openssl x509`, `pkey` and what else uses OpenSSL 3.0's stores try for ever:
give them a time limit in scripts.

## After a rotation

Who opens the file again reads the new value; the inode stays, and the size and the time of change are the new value's.
Who keeps what it has read (nginx its certificates, until `nginx -s reload`) can be told by `rotation.notify`: the test
sends SIGHUP to nginx and sees the new certificate on the wire.

## What does not work at all

"""

CALLS_HEAD = """
## Calls beside open, read and close

Such a file is not stored anywhere: each read makes its bytes. So what needs pages or an offset does not work, and says
so, with one exception in bold. Tried on a file of ten bytes, `0123456789`:

| call | gives | instead |
|---|---|---|
"""

TAIL = """
Where a program needs what is not here, give its pod the mode `preload`, or a node with the engine `tmpfs`: their files
are ordinary ones, and modes and owners alone decide who reads.
"""


def page() -> str:
    """The whole page."""
    rows = [f"| {r.program} | {r.way} | {r.outcome()} |" for r in READERS if not r.fails]
    failing = [f"- {r.program}, {r.way}: `{r.fails}` also where it may read. {r.instead}" for r in READERS if r.fails]
    calls = [f"| {call.name} | `{call.gives}` | {call.instead} |" for call in CALLS]
    parts = [HEAD.format(too_long="Argument list too long"), *lines(rows), DECEIVED, *lines(failing), CALLS_HEAD]
    return "".join([*parts, *lines(calls), TAIL])


def lines(texts: list[str]) -> list[str]:
    """Each ended."""
    return [text + "\n" for text in texts]


if __name__ == "__main__":
    PAGE.write_text(page())
