"""The numbers of a SecretInterceptor: bounds, intervals and signals. Pure functions that name the field."""

from __future__ import annotations

from collections.abc import Iterator

from kernelsecret.interceptor import Limits, NamespaceLimits, PodLimits, Rotation
from kernelsecret.plain import MAX_PATH
from kernelsecret.problems import Problem, quoted
from kernelsecret.quantities import seconds, size

MAX_FILE_BYTES = 1 << 20
"""The largest value that can be served as one file."""
MAX_OPEN_FILES = 4096
MIN_POLL_S = 0.1
MIN_REVOKE_S = 5.0
MAX_INTERVAL_S = 86400.0
MAX_COUNT = 1 << 31

SIGNALS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGWINCH")
"""Signals that applications are known to reload (or to end, and be started anew) by."""


def rotation_problems(rotation: Rotation) -> Iterator[Problem]:
    """What is wrong with `spec.rotation`."""
    yield from _interval(rotation.poll_interval, "spec.rotation.pollInterval", MIN_POLL_S)
    yield from _interval(rotation.min_interval, "spec.rotation.minInterval", 0.0)
    yield from _interval(rotation.revoke_after, "spec.rotation.revokeAfter", MIN_REVOKE_S)
    notify = rotation.notify
    if notify is None:
        return
    if notify.signal not in SIGNALS:
        why = f"{quoted(notify.signal)} is not one of {', '.join(SIGNALS)}"
        yield Problem("spec.rotation.notify.signal", why)
    if notify.process != "main" and not _is_program(notify.process):
        why = f"{quoted(notify.process)} is neither 'main' nor the absolute path of a program"
        yield Problem("spec.rotation.notify.process", why)


def limit_problems(limits: Limits) -> Iterator[Problem]:
    """What is wrong with `spec.limits`."""
    yield from _bytes(limits.max_file_bytes, "spec.limits.maxFileBytes", MAX_FILE_BYTES)
    yield from _count(limits.open_files, "spec.limits.openFiles", MAX_OPEN_FILES)
    yield from _bounds(limits.pod, "spec.limits.pod")
    yield from _bounds(limits.namespace, "spec.limits.namespace")


def _bounds(bounds: PodLimits | NamespaceLimits, at: str) -> Iterator[Problem]:
    yield from _bytes(bounds.bytes_, f"{at}.bytes", 1 << 40)
    yield from _count(bounds.files, f"{at}.files", MAX_COUNT)
    yield from _count(bounds.volumes, f"{at}.volumes", MAX_COUNT)


def _bytes(value: int | str, at: str, most: int) -> Iterator[Problem]:
    try:
        number = size(value)
    except ValueError as error:
        yield Problem(at, f"{quoted(str(value))} is {error}" if isinstance(value, str) else str(error))
        return
    if not 1 <= number <= most:
        yield Problem(at, f"{number} is not from 1 to {most} bytes")


def _count(value: int, at: str, most: int) -> Iterator[Problem]:
    if not 1 <= value <= most:
        yield Problem(at, f"{value} is not from 1 to {most}")


def _interval(text: str, at: str, least: float) -> Iterator[Problem]:
    try:
        value = seconds(text)
    except ValueError as error:
        yield Problem(at, f"{quoted(text)} is {error}")
        return
    if not least <= value <= MAX_INTERVAL_S:
        yield Problem(at, f"{quoted(text)} is not from {least:g}s to 24h")


def _is_program(path: str) -> bool:
    parts = path.split("/")
    if len(path) > MAX_PATH:
        return False
    return len(parts) > 1 and parts[0] == "" and all(part not in ("", ".", "..") for part in parts[1:])
