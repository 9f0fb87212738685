"""Names and paths as people write them: why one is not plain. Pure; None means that it is."""

from __future__ import annotations

from kernelsecret.problems import quoted

MAX_NAME = 255
"""Bytes of a file's name, a Linux limit."""
MAX_PATH = 1024
"""Bytes of a path."""


def is_printable(text: str) -> bool:
    """No control character, and nothing that UTF-8 cannot write."""
    return not any(ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 or 0xD800 <= ord(one) < 0xE000 for one in text)


def plain_name_problem(name: str) -> str | None:
    """Why a text is not the name of one file or key, None if it is. Dots are fine, but not two at the start."""
    if not name:
        return "empty"
    if "/" in name:
        return f"{quoted(name)} has a '/'; it is one name, not a path"
    if name == "." or name.startswith(".."):
        return f"{quoted(name)} is '.' or starts with '..'"
    if not is_printable(name):
        return f"{quoted(name)} has a control character"
    if len(name.encode()) > MAX_NAME:
        return f"{quoted(name)} has more than {MAX_NAME} bytes"
    return None


def relative_path_problem(path: str) -> str | None:
    """Why a text is not a path below a root, None if it is: names joined by single slashes."""
    if not path:
        return "empty"
    if path.startswith("/"):
        return f"{quoted(path)} is absolute; it is taken below the agent's root of secrets"
    for part in path.split("/"):
        if problem := plain_name_problem(part):
            return problem if part else f"{quoted(path)} has an empty part"
    if len(path.encode()) > MAX_PATH:
        return f"has more than {MAX_PATH} bytes"
    return None


def absolute_path_problem(path: str, what: str = "a program") -> str | None:
    """Why a text is not the absolute path of `what`, None if it is. Relative parts and '//' are refused."""
    if not path.startswith("/") or path == "/":
        return f"{quoted(path)} is not the absolute path of {what}"
    problem = relative_path_problem(path[1:])
    return f"{quoted(path)} is not a plain path" if problem else None
