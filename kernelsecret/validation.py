"""Whether a SecretInterceptor can work, as pure functions that name the field. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from kernelsecret.interceptor import AccessFrom, FileSpec, InterceptorSpec, SecretInterceptor, SecretSource, SecretSpec
from kernelsecret.names import ANNOTATION_INJECT_ANY, ANNOTATION_INJECT_OFF, API_VERSION, KIND_INTERCEPTOR
from kernelsecret.problems import Invalid, Problem, from_decoder, quoted
from kernelsecret.quantities import mode
from kernelsecret.selectors import selector_problems
from kernelsecret.validation_limits import MAX_PATH, limit_problems, rotation_problems

MAX_FILES = 64
"""Files of one volume, and keys of one secret that are used."""
MAX_BINARIES = 64
MAX_NAME = 255
"""Bytes of a file's name, a Linux limit."""
MAX_CONTAINERS = 64
"""Names in `spec.delivery.containers`."""
MAX_ROLE = 253
"""Letters of a Vault role's name."""
TAKEN_NAMES = (ANNOTATION_INJECT_ANY, ANNOTATION_INJECT_OFF, "kubernetes.io")
"""No interceptor is named so: two have another meaning in the annotation, and in the folder of the third, below
`/var/run/secrets`, lies the service account of every pod."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")


def read_interceptor(thing: object) -> SecretInterceptor:
    """A SecretInterceptor from what a JSON or YAML reader made of it. Raises Invalid with every problem found."""
    try:
        interceptor = msgspec.convert(thing, SecretInterceptor)
    except msgspec.ValidationError as error:
        # `from error` would carry nothing more: the message is all that msgspec has.
        raise Invalid([from_decoder(str(error))]) from None
    problems = list(interceptor_problems(interceptor))
    if problems:
        raise Invalid(problems)
    return interceptor


def interceptor_problems(interceptor: SecretInterceptor) -> Iterator[Problem]:
    """Everything that is wrong with an interceptor, in the order of its fields."""
    if interceptor.api_version != API_VERSION:
        yield Problem("apiVersion", f"{quoted(interceptor.api_version)} is not {API_VERSION}")
    if interceptor.kind != KIND_INTERCEPTOR:
        yield Problem("kind", f"{quoted(interceptor.kind)} is not {KIND_INTERCEPTOR}")
    if not _SUBDOMAIN.fullmatch(interceptor.metadata.name):
        yield Problem("metadata.name", f"{quoted(interceptor.metadata.name)} is not the name of an object")
    elif interceptor.metadata.name in TAKEN_NAMES:
        why = f"{quoted(interceptor.metadata.name)} has a meaning of its own in annotations or mounts"
        yield Problem("metadata.name", why, "choose another name")
    spec = interceptor.spec
    yield from selector_problems(spec.namespace_selector, "spec.namespaceSelector")
    yield from selector_problems(spec.pod_selector, "spec.podSelector")
    yield from _secrets_problems(spec)
    yield from _delivery_problems(spec)
    yield from _access_problems(spec)
    yield from rotation_problems(spec.rotation)
    yield from limit_problems(spec.limits)


def plain_name_problem(name: str) -> str | None:
    """Why a text is not the name of one file or key, None if it is. Dots are fine, but not two at the start."""
    if not name:
        return "empty"
    if "/" in name:
        return f"{quoted(name)} has a '/'; it is one name, not a path"
    if name == "." or name.startswith(".."):
        return f"{quoted(name)} is '.' or starts with '..'"
    if any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
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


def _secrets_problems(spec: InterceptorSpec) -> Iterator[Problem]:
    if not spec.secrets:
        yield Problem("spec.secrets", "empty", "name at least one secret")
    names: dict[str, int] = {}
    paths: dict[str, str] = {}
    for index, secret in enumerate(spec.secrets):
        at = f"spec.secrets[{index}]"
        if not _LABEL.fullmatch(secret.name):
            why = f"{quoted(secret.name)} is not a name of lower-case letters, digits and '-'"
            yield Problem(f"{at}.name", why)
        elif secret.name in names:
            yield Problem(f"{at}.name", f"{quoted(secret.name)} is also spec.secrets[{names[secret.name]}].name")
        names.setdefault(secret.name, index)
        yield from _source_problems(secret.source, f"{at}.source")
        yield from _files_problems(secret, at, paths)
    total = sum(len(secret.files) for secret in spec.secrets)
    if total > MAX_FILES:
        yield Problem("spec.secrets", f"{total} files in one volume, at most {MAX_FILES}", "use two interceptors")


def _source_problems(source: SecretSource, at: str) -> Iterator[Problem]:
    if len(source.kinds) != 1:
        found = f"both {' and '.join(source.kinds)}" if source.kinds else "none"
        yield Problem(at, f"needs exactly one of file, vault and kubernetes, has {found}")
    if source.file and (problem := relative_path_problem(source.file.path)):
        yield Problem(f"{at}.file.path", problem)
    if source.vault:
        if not source.vault.path:
            yield Problem(f"{at}.vault.path", "empty")
        if len(source.vault.path) > MAX_PATH:
            yield Problem(f"{at}.vault.path", f"has more than {MAX_PATH} letters")
        if len(source.vault.role) > MAX_ROLE:
            yield Problem(f"{at}.vault.role", f"has more than {MAX_ROLE} letters")
    if source.kubernetes and not _SUBDOMAIN.fullmatch(source.kubernetes.name):
        yield Problem(f"{at}.kubernetes.name", f"{quoted(source.kubernetes.name)} is not the name of a Secret")


def _files_problems(secret: SecretSpec, at: str, paths: dict[str, str]) -> Iterator[Problem]:
    if not secret.files:
        yield Problem(f"{at}.files", "empty", "name at least one file")
    for index, file in enumerate(secret.files):
        here = f"{at}.files[{index}]"
        if problem := plain_name_problem(file.path):
            yield Problem(f"{here}.path", problem)
        elif file.path in paths:
            yield Problem(f"{here}.path", f"{quoted(file.path)} is also {paths[file.path]}")
        paths.setdefault(file.path, f"{here}.path")
        if bool(file.key) == bool(file.template):
            found = "both" if file.key else "neither"
            yield Problem(here, f"needs exactly one of key and template, has {found}")
        elif file.key and (problem := plain_name_problem(file.key)):
            yield Problem(f"{here}.key", problem)
        yield from _mode_problems(file, f"{here}.mode")


def _mode_problems(file: FileSpec, at: str) -> Iterator[Problem]:
    try:
        mode(file.mode)
    except ValueError as error:
        yield Problem(at, str(error), 'write "0440", "0400" or "0444"')


def _delivery_problems(spec: InterceptorSpec) -> Iterator[Problem]:
    modes = spec.delivery.modes
    if not modes:
        yield Problem("spec.delivery.modes", "empty", "name at least one of ebpf, preload and vault-agent")
    for index, name in enumerate(modes):
        if name in modes[:index]:
            yield Problem(f"spec.delivery.modes[{index}]", f"{quoted(name)} is named twice")
    containers = spec.delivery.containers
    if len(containers) > MAX_CONTAINERS:
        yield Problem("spec.delivery.containers", f"{len(containers)} entries, at most {MAX_CONTAINERS}")
    for index, container in enumerate(containers):
        at = f"spec.delivery.containers[{index}]"
        if not _LABEL.fullmatch(container):
            why = f"{quoted(container)} is not the name of a container"
            yield Problem(at, why, "use lower-case letters, digits and '-', 63 at most, as in the pod's spec")
        elif container in containers[:index]:
            yield Problem(at, f"{quoted(container)} is named twice")


def _access_problems(spec: InterceptorSpec) -> Iterator[Problem]:
    access = spec.access
    if access.from_ is AccessFrom.BINARIES and not access.binaries:
        yield Problem("spec.access.binaries", "empty, but spec.access.from is 'binaries'", "name who may read")
    if len(access.binaries) > MAX_BINARIES:
        yield Problem("spec.access.binaries", f"{len(access.binaries)} entries, at most {MAX_BINARIES}")
    for index, binary in enumerate(access.binaries):
        at = f"spec.access.binaries[{index}]"
        if problem := absolute_path_problem(binary):
            yield Problem(at, problem)
        elif binary in access.binaries[:index]:
            yield Problem(at, f"{quoted(binary)} is named twice")


def absolute_path_problem(path: str) -> str | None:
    """Why a text is not the absolute path of a program, None if it is. Relative parts and '//' are refused."""
    if not path.startswith("/") or path == "/":
        return f"{quoted(path)} is not the absolute path of a program"
    problem = relative_path_problem(path[1:])
    return f"{quoted(path)} is not a plain path" if problem else None
