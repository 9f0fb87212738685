"""Makes text that others control safe to show. Pure: no I/O here.

Names of processes and files come from a workload that may be hostile: a control character could forge a second log
line, a bidirectional override could hide what a terminal shows. So everything that is not printable is escaped,
reversibly.
"""

from __future__ import annotations

from datetime import UTC, datetime

NANOSECONDS = 1_000_000_000


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def clean(text: str | bytes, limit: int = 512) -> str:
    """The text with all that is not printable escaped, cut to `limit` characters (the cut is shown by an ellipsis).

    Bytes are read as UTF-8 and end at the first NUL, as the kernel's fixed-size names do.
    """
    if isinstance(text, bytes):
        text = text.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if len(text) <= limit and text.isprintable() and "\\" not in text:
        return text  # as nearly every text is; one by one below costs microseconds
    # Cut before escaping too: a megabyte from outside must not be walked through only to be thrown away.
    shown = "".join(c if c.isprintable() and c != "\\" else _escape(c) for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def rfc3339(time_ns: int) -> str:
    """Nanoseconds since 1970 (CLOCK_REALTIME) as `2026-11-21T10:00:00.123456789Z`."""
    seconds, rest = divmod(time_ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def wall_clock(kernel_ns: int, *, now_kernel_ns: int, now_wall_ns: int) -> int:
    """A kernel time stamp (`bpf_ktime_get_ns`: CLOCK_MONOTONIC) as CLOCK_REALTIME nanoseconds, from both clocks read
    just now.
    """
    return now_wall_ns - (now_kernel_ns - kernel_ns)
