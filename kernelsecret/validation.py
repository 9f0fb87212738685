"""Whether a SecretInterceptor can work, as pure functions that name the field. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from kernelsecret.interceptor import AccessFrom, FileSpec, InterceptorSpec, SecretInterceptor, SecretSpec
from kernelsecret.names import ANNOTATION_INJECT_ANY, ANNOTATION_INJECT_OFF, API_VERSION, GROUP, KIND_INTERCEPTOR
from kernelsecret.plain import absolute_path_problem, plain_name_problem
from kernelsecret.problems import Invalid, Problem, from_decoder, join, quoted
from kernelsecret.quantities import mode
from kernelsecret.selectors import selector_problems
from kernelsecret.shapes import file_problems
from kernelsecret.validation_limits import limit_problems, rotation_problems
from kernelsecret.validation_sources import SUBDOMAIN, source_problems

MAX_FILES = 64
"""Files of one volume, and keys of one secret that are used."""
MAX_BINARIES = 64
MAX_CONTAINERS = 64
"""Names in `spec.delivery.containers`."""
MAX_PREFIXES = 16
"""Folders in `spec.delivery.preload.prefixes`."""
KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
"""What no prefix shows files in: programs read there how the machine is."""
TAKEN_NAMES = (ANNOTATION_INJECT_ANY, ANNOTATION_INJECT_OFF, "kubernetes.io", GROUP)
"""No interceptor is named so: two have another meaning in the annotation, and in the folders of the others, below
`/var/run/secrets`, lie the service account of every pod and the shim."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


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
    if not SUBDOMAIN.fullmatch(interceptor.metadata.name):
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
        yield from source_problems(secret.source, f"{at}.source")
        yield from _files_problems(secret, at, paths)
    total = sum(len(secret.files) for secret in spec.secrets)
    if total > MAX_FILES:
        yield Problem("spec.secrets", f"{total} files in one volume, at most {MAX_FILES}", "use two interceptors")


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
        for found in file_problems(file):
            yield Problem(join(here, found.field) if found.field else here, found.why, found.fix)
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
    yield from _prefix_problems(spec.delivery.preload.prefixes)


def _prefix_problems(prefixes: tuple[str, ...]) -> Iterator[Problem]:
    if len(prefixes) > MAX_PREFIXES:
        yield Problem("spec.delivery.preload.prefixes", f"{len(prefixes)} entries, at most {MAX_PREFIXES}")
    for index, prefix in enumerate(prefixes):
        at = f"spec.delivery.preload.prefixes[{index}]"
        if problem := absolute_path_problem(prefix, "a folder"):
            yield Problem(at, problem, "write it as /etc/payments")
        elif ":" in prefix or "=" in prefix:
            yield Problem(at, f"{quoted(prefix)} has a ':' or '=', which part the shim's paths", "use another folder")
        elif f"/{prefix.split('/')[1]}" in KERNEL_FOLDERS:
            yield Problem(at, f"{quoted(prefix)} lies where the kernel shows files", "use another folder")
        elif prefix in prefixes[:index]:
            yield Problem(at, f"{quoted(prefix)} is named twice")


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
