"""References in an environment: which variables are secrets, and of which. Pure: the environment comes in.

    DB_PASSWORD=vault:secret/data/db#password     a path of Vault's API, and a key of what is there
    DB_PASSWORD=vault:secret/data/db?version=3#password
    TLS_KEY=file:/etc/app/tls.key                 a file
    TLS_KEY=file:/etc/app#tls.key                 the same: a key of a folder

Whatever could be meant as a reference and is none is refused: a program must never get the text of one as its password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kernelsecret.interceptor import SecretSource, VaultMethod, VaultSource
from kernelsecret.interceptor import VaultAuth as Auth
from kernelsecret.plain import absolute_path_problem, is_printable, plain_name_problem
from kernelsecret.problems import Problem, quoted, shown
from kernelsecret.validation_sources import MAX_VERSION, source_problems

VAULT: Final = "vault"
FILE: Final = "file"
MOST: Final = 200
"""References of one command: each is a descriptor, and all of them are handed over at once."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_INLINE = re.compile(r"\$\{(?:vault|file):|^>+(?:vault|file):")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_OTHERS: Final = ("kubernetes", "k8s", "configmap", "secret")
_BEARER: Final = Auth(method=VaultMethod.APP_ROLE, mount="approle", credential="run")
"""Stands for a login while a path is checked: how is said elsewhere, once for all references."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One variable: `path` is that of Vault's API, or the absolute one of a folder; `version` 0 is the newest."""

    name: str
    scheme: str
    path: str
    key: str
    version: int = 0

    def __str__(self) -> str:
        at = f"{self.path}?version={self.version}" if self.version else self.path
        return f"{self.scheme}:{at}#{self.key}"


def references(
    environment: Mapping[str, str], only: Collection[str] | None = None
) -> tuple[tuple[Reference, ...], tuple[Problem, ...]]:
    """Every reference, in the order of names, and everything that is wrong.

    `only` are the names of the variables that are references; without it they are known by how their values begin.
    """
    found: list[Reference] = []
    problems: list[Problem] = []
    for name in sorted(environment if only is None else only):
        value = environment.get(name)
        match _read(name, value) if only is None or value is None else _read_named(name, value):
            case Reference() as reference:
                found.append(reference)
            case Problem() as problem:
                problems.append(problem)
    if len(found) > MOST:
        why = f"{len(found)} variables are references, and {MOST} is the most"
        problems.append(Problem("the environment", why, "give COMMAND fewer, or several of them in one file"))
    return tuple(found), tuple(problems)


def folders(found: Iterable[Reference]) -> dict[str, set[str]]:
    """Of those that are files: which keys are wanted of which folder."""
    wanted: dict[str, set[str]] = {}
    for reference in found:
        if reference.scheme == FILE:
            wanted.setdefault(reference.path, set()).add(reference.key)
    return wanted


def _read_named(name: str, value: str) -> Reference | Problem:
    """A variable of which somebody has said that it is one."""
    fix = "write vault:PATH#KEY or file:/PATH, or take it out of --names"
    return _read(name, value) or Problem(shown(name), "is named by --names, and its value is no reference", fix)


def _read(name: str, value: str | None) -> Reference | Problem | None:
    if value is None:
        return Problem(shown(name), "is named by --names, and is not set", "set it, or take it out of --names")
    if inline := _INLINE.search(value):
        why = f"has a reference inside of a text ({inline[0]}...), and only a whole value can be one"
        return Problem(shown(name), why, "write vault:PATH#KEY alone: the variable becomes the path of a file")
    matched = _SCHEME.fullmatch(value)
    if matched is None:
        return None
    scheme, rest = matched[1], matched[2]
    if scheme == VAULT:
        return _vault(name, rest)
    if scheme == FILE:
        return _file(name, rest)
    return _foreign(name, scheme, rest)


def _foreign(name: str, scheme: str, rest: str) -> Problem | None:
    """A scheme that is not ours: a typing error, another product's, or no reference at all."""
    small = scheme.lower()
    if small in _OTHERS and "#" in rest:
        why = f"asks {quoted(scheme)} for a secret, and without a cluster there are vault: and file: only"
        return Problem(shown(name), why, "write one of these")
    for ours, is_one in ((VAULT, "#" in rest), (FILE, rest.startswith("/"))):
        if small == ours or (is_one and _is_near(small, ours)):
            why = f"begins with {quoted(scheme + ':')}, which is not {quoted(ours + ':')}"
            fix = f"write {ours}: if it is a reference; if it is none, say with --names which variables are"
            return Problem(shown(name), why, fix)
    return None


def _is_near(text: str, ours: str) -> bool:
    """Whether one slip makes the one of the other: a letter too many, too few, another, or two in the wrong order."""
    if abs(len(text) - len(ours)) > 1 or text == ours:
        return False
    start = next((at for at, pair in enumerate(zip(text, ours, strict=False)) if pair[0] != pair[1]), len(ours))
    tail, other = text[start:], ours[start:]
    swapped = len(tail) > 1 and tail[:2] == other[1::-1] and tail[2:] == other[2:]
    return swapped or tail[1:] == other or tail == other[1:] or tail[1:] == other[1:]


def _vault(name: str, rest: str) -> Reference | Problem:
    where, hash_, key = rest.partition("#")
    path, question, query = where.partition("?")
    version = 0
    if path.startswith("//"):
        return _wrong(name, "begins with 'vault://'", "write vault:PATH#KEY, such as vault:secret/data/db#password")
    if not hash_ or not key:
        return _wrong(name, "names no key of the secret", "write #KEY at its end, such as #password")
    if not is_printable(key):
        return _wrong(name, f"has a control character in {quoted('#' + key)}", "write the key as Vault has it")
    if question:
        label, _, number = query.partition("=")
        if label != "version" or not _NUMBER.fullmatch(number) or int(number) > MAX_VERSION:
            return _wrong(name, f"has {quoted('?' + query)}", "write ?version=3 to pin a version of KV v2, and no more")
        version = int(number)
    source = SecretSource(vault=VaultSource(path=path, auth=_BEARER, version=version))
    for problem in source_problems(source, ""):
        return _wrong(name, problem.why, problem.fix)
    return Reference(name, VAULT, path, key, version)


def _file(name: str, rest: str) -> Reference | Problem:
    path, hash_, key = rest.partition("#")
    if not path.startswith("/") or path.startswith("//"):
        bare = path.lstrip("/")
        fix = f"write file:/{shown(bare)}; if it is no reference, say with --names which variables are"
        return _wrong(name, f"has {quoted(path)}, which is no absolute path", fix)
    if problem := absolute_path_problem(path, "a file"):
        return _wrong(name, problem, "write file:/FOLDER/FILE, without '..' and '//'")
    if not hash_:
        path, _, key = path.rpartition("/")
    if problem := plain_name_problem(key):
        return _wrong(name, f"the key is {problem}", "write file:/FOLDER#NAME for a file of the folder")
    if not path:
        return _wrong(name, "is a file in '/' itself", "put it in a folder of its own, which can be watched")
    return Reference(name, FILE, path, key)


def _wrong(name: str, why: str, fix: str) -> Problem:
    return Problem(shown(name), why, fix)
