"""What a SecretInterceptor may say, and that each thing it may not is refused with its field's exact name."""

from __future__ import annotations

import copy
import signal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.interceptor import (
    AccessAction,
    AccessFrom,
    EphemeralContainers,
    Mode,
    OnUnavailable,
    Placement,
    Unenforced,
)
from kernelsecret.plain import plain_name_problem, relative_path_problem
from kernelsecret.problems import Invalid, Problem
from kernelsecret.validation import MAX_FILES, read_interceptor
from kernelsecret.validation_limits import SIGNALS
from tests.unit.contract.builders import MISSING, changed, example


def problems(thing: object) -> list[str]:
    with pytest.raises(Invalid) as caught:
        read_interceptor(thing)
    return [str(problem) for problem in caught.value.problems]


def told_of(thing: object) -> tuple[Problem, ...]:
    try:
        read_interceptor(thing)
    except Invalid as error:
        return error.problems
    return ()


def files(number: int) -> list[dict[str, str]]:
    return [{"path": f"f{index}", "key": "k"} for index in range(number)]


def test_the_example_is_valid_and_comes_back_from_its_own_wire_form() -> None:
    interceptor = read_interceptor(example())
    assert read_interceptor(msgspec.to_builtins(interceptor)) == interceptor
    assert interceptor.spec.secrets[0].files[1].mode == "0400"


def test_the_defaults_are_the_strict_ones() -> None:
    spec = {"namespaceSelector": {}, "secrets": example()["spec"]["secrets"]}
    read = read_interceptor({**example(), "spec": spec}).spec
    assert read.access.from_ is AccessFrom.APP
    assert read.access.action is AccessAction.DENY
    assert read.access.unenforced is Unenforced.REFUSE
    assert read.delivery.modes == (Mode.EBPF,)
    assert read.delivery.placement is Placement.PREFER
    assert read.delivery.on_unavailable is OnUnavailable.KEEP
    assert read.delivery.containers == ()
    assert read.access.ephemeral_containers is EphemeralContainers.REFUSE
    assert read.secrets[0].files[0].mode == 0o440
    assert (read.rotation.poll_interval, read.rotation.min_interval, read.rotation.notify) == ("1s", "0s", None)
    assert read.rotation.revoke_after == "5m"
    assert read.limits.open_files == 256


def test_status_and_metadata_of_the_api_server_are_passed_over() -> None:
    thing = changed("metadata.managedFields", [{"manager": "kubectl"}])
    thing["status"] = {"conditions": [{"type": "Ready", "status": "True"}], "volumes": 3, "later": "field"}
    status = read_interceptor(thing).status
    assert status is not None
    assert status.volumes == 3


@pytest.mark.parametrize(
    ("path", "value", "field", "why"),
    [
        ("apiVersion", "kernelsecret.io/v1", "apiVersion", "is not kernelsecret.io/v1alpha1"),
        ("kind", "Secret", "kind", "is not SecretInterceptor"),
        ("metadata.name", "Not_A_Name", "metadata.name", "not the name"),
        ("spec.namespaceSelector", MISSING, "spec.namespaceSelector", "missing"),
        ("metadata.name", "true", "metadata.name", "meaning of its own"),
        ("metadata.name", "false", "metadata.name", "meaning of its own"),
        ("metadata.name", "kubernetes.io", "metadata.name", "meaning of its own"),
        ("metadata.name", "kernelsecret.io", "metadata.name", "meaning of its own"),
        ("spec.secrets", MISSING, "spec.secrets", "missing"),
        ("spec.secrets", [], "spec.secrets", "empty"),
        ("spec.secret", [], "spec.secret", "no such field"),
        ("spec.secrets", 3, "spec.secrets", "expected array, got int"),
        ("spec.secrets.0.name", "A b", "spec.secrets[0].name", "lower-case"),
        ("spec.secrets.0.source", {}, "spec.secrets[0].source", "exactly one of file, vault and kubernetes, has none"),
        (
            "spec.secrets.0.source",
            {"file": {"path": "a"}, "kubernetes": {"name": "b"}},
            "spec.secrets[0].source",
            "both file and kubernetes",
        ),
        ("spec.secrets.0.source.file.path", "/etc", "spec.secrets[0].source.file.path", "absolute"),
        ("spec.secrets.0.source.file.path", "a/../../b", "spec.secrets[0].source.file.path", "'..'"),
        ("spec.secrets.0.source.file.path", "", "spec.secrets[0].source.file.path", "empty"),
        ("spec.secrets.0.source.file.paht", "a", "spec.secrets[0].source.file.paht", "no such field"),
        ("spec.secrets.0.files", [], "spec.secrets[0].files", "empty"),
        ("spec.secrets.0.files", files(MAX_FILES + 1), "spec.secrets", f"at most {MAX_FILES}"),
        ("spec.secrets.0.files.1.path", "a/b", "spec.secrets[0].files[1].path", "'/'"),
        ("spec.secrets.0.files.1.path", "..", "spec.secrets[0].files[1].path", "starts with '..'"),
        ("spec.secrets.0.files.1.path", "..data", "spec.secrets[0].files[1].path", "starts with '..'"),
        ("spec.secrets.0.files.1.path", "a\nb", "spec.secrets[0].files[1].path", "control character"),
        ("spec.secrets.0.files.1.path", "x" * 256, "spec.secrets[0].files[1].path", "255 bytes"),
        ("spec.secrets.0.files.1.path", "username", "spec.secrets[0].files[1].path", "also spec.secrets[0].files[0]"),
        ("spec.secrets.0.files.1.key", MISSING, "spec.secrets[0].files[1]", "exactly one of key and template"),
        ("spec.secrets.0.files.1.key", "", "spec.secrets[0].files[1]", "has neither"),
        ("spec.secrets.0.files.1.mode", "rw", "spec.secrets[0].files[1].mode", "octal"),
        ("spec.secrets.0.files.1.mode", "0640", "spec.secrets[0].files[1].mode", "is 0640, but a file of a read-only"),
        ("spec.secrets.0.files.1.mode", 440, "spec.secrets[0].files[1].mode", "is 0670"),
        ("spec.secrets.0.files.1.mode", 0, "spec.secrets[0].files[1].mode", "readable"),
        ("spec.secrets.0.files.1.mode", True, "spec.secrets[0].files[1].mode", "expected"),
        ("spec.delivery.modes", [], "spec.delivery.modes", "empty"),
        ("spec.delivery.modes", ["ebpf", "ebpf"], "spec.delivery.modes[1]", "twice"),
        ("spec.delivery.modes", ["bpf"], "spec.delivery.modes[0]", "invalid enum value 'bpf'"),
        ("spec.delivery.containers", "app", "spec.delivery.containers", "expected array"),
        ("spec.delivery.containers", ["App"], "spec.delivery.containers[0]", "not the name of a container"),
        ("spec.delivery.containers", ["app", ""], "spec.delivery.containers[1]", "use lower-case letters"),
        ("spec.delivery.containers", ["a" * 64], "spec.delivery.containers[0]", "63 at most"),
        ("spec.delivery.containers", ["app", "web", "app"], "spec.delivery.containers[2]", "twice"),
        ("spec.delivery.containers", [f"c{n}" for n in range(65)], "spec.delivery.containers", "at most 64"),
        (
            "spec.delivery.preload.prefixes",
            ["etc/app"],
            "spec.delivery.preload.prefixes[0]",
            "absolute path of a folder",
        ),
        ("spec.delivery.preload.prefixes", ["/"], "spec.delivery.preload.prefixes[0]", "absolute path of a folder"),
        ("spec.delivery.preload.prefixes", ["/etc/../app"], "spec.delivery.preload.prefixes[0]", "plain path"),
        ("spec.delivery.preload.prefixes", ["/etc/a:b"], "spec.delivery.preload.prefixes[0]", "which part the shim's"),
        ("spec.delivery.preload.prefixes", ["/a=b"], "spec.delivery.preload.prefixes[0]", "which part the shim's"),
        ("spec.delivery.preload.prefixes", ["/proc/1"], "spec.delivery.preload.prefixes[0]", "the kernel shows files"),
        ("spec.delivery.preload.prefixes", ["/a", "/b", "/a"], "spec.delivery.preload.prefixes[2]", "twice"),
        (
            "spec.delivery.preload.prefixes",
            [f"/{n}" for n in range(17)],
            "spec.delivery.preload.prefixes",
            "at most 16",
        ),
        ("spec.access.ephemeralContainers", "yes", "spec.access.ephemeralContainers", "invalid enum value 'yes'"),
        ("spec.access.from", "root", "spec.access.from", "invalid enum value"),
        ("spec.access.from", "binaries", "spec.access.binaries", "empty"),
        ("spec.access.binaries", ["bin/sh"], "spec.access.binaries[0]", "absolute path"),
        ("spec.access.binaries", ["/bin/../sh"], "spec.access.binaries[0]", "plain path"),
        ("spec.access.binaries", ["/a", "/a"], "spec.access.binaries[1]", "twice"),
        ("spec.access.binaries", [f"/{n}" for n in range(65)], "spec.access.binaries", "at most 64"),
        ("spec.rotation.pollInterval", "1", "spec.rotation.pollInterval", "not a duration"),
        ("spec.rotation.pollInterval", "50ms", "spec.rotation.pollInterval", "from 0.1s"),
        ("spec.rotation.minInterval", "25h", "spec.rotation.minInterval", "24h"),
        ("spec.rotation.revokeAfter", "4s", "spec.rotation.revokeAfter", "from 5s to 24h"),
        ("spec.rotation.revokeAfter", "never", "spec.rotation.revokeAfter", "not a duration"),
        ("spec.rotation.notify.signal", "SIGKILL", "spec.rotation.notify.signal", "is not one of SIGHUP"),
        ("spec.rotation.notify.process", "nginx", "spec.rotation.notify.process", "neither 'main' nor"),
        ("spec.rotation.notify.process", "/" + "x" * 1024, "spec.rotation.notify.process", "neither 'main' nor"),
        ("spec.limits.maxFileBytes", "2Mi", "spec.limits.maxFileBytes", "from 1 to 1048576"),
        ("spec.limits.maxFileBytes", "many", "spec.limits.maxFileBytes", "not a number of bytes"),
        ("spec.limits.openFiles", 0, "spec.limits.openFiles", "from 1 to 4096"),
        ("spec.limits.openFiles", 4097, "spec.limits.openFiles", "from 1 to 4096"),
        ("spec.limits.pod.volumes", -1, "spec.limits.pod.volumes", "from 1"),
        ("spec.limits.namespace.bytes", -1, "spec.limits.namespace.bytes", "less than 0"),
        ("spec.podSelector.matchLabels", {"a b": "c"}, "spec.podSelector.matchLabels['a b']", "not a label's name"),
        (
            "spec.podSelector.matchExpressions",
            [{"key": "a", "operator": "In"}],
            "spec.podSelector.matchExpressions[0].values",
            "empty",
        ),
        (
            "spec.podSelector.matchExpressions",
            [{"key": "a", "operator": "Exists", "values": ["x"]}],
            "spec.podSelector.matchExpressions[0].values",
            "must be empty",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_field_named(path: str, value: object, field: str, why: str) -> None:
    found = problems(changed(path, value))
    assert len(found) == 1
    assert found[0].startswith(f"{field}: ")
    assert why in found[0]


def test_every_problem_is_told_at_once() -> None:
    thing = changed("spec.secrets.0.files.0.path", "a/b")
    thing["spec"]["access"] = {"from": "binaries"}
    thing["spec"]["secrets"].append(copy.deepcopy(thing["spec"]["secrets"][0]))
    told = problems(thing)
    assert [text.split(":")[0] for text in told] == [
        "spec.secrets[0].files[0].path",
        "spec.secrets[1].name",
        "spec.secrets[1].files[0].path",
        "spec.secrets[1].files[1].path",
        "spec.access.binaries",
    ]


def test_the_containers_and_whether_debuggers_may_join_are_read() -> None:
    thing = changed("spec.delivery.containers", ["app", "migrate-2"])
    thing["spec"]["access"]["ephemeralContainers"] = "allow"
    spec = read_interceptor(thing).spec
    assert spec.delivery.containers == ("app", "migrate-2")
    assert spec.access.ephemeral_containers is EphemeralContainers.ALLOW


@pytest.mark.parametrize("name", ["tls.crt", ".dockerconfigjson", "a..b", "ü", "with space", "x" * 255])
def test_dots_and_odd_names_are_fine(name: str) -> None:
    read_interceptor(changed("spec.secrets.0.files.1.path", name))


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_that_may_be_named_exists_here(name: str) -> None:
    assert signal.Signals[name]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


ANYWHERE = [
    *("metadata", "spec", "spec.secrets", "spec.secrets.0", "spec.access", "spec.limits", "spec.rotation.revokeAfter"),
    *(f"spec.secrets.0.source.vault{field}" for field in ("", ".path", ".role", ".auth.mount", ".parameters")),
    *(f"spec.secrets.0.files.0.{field}" for field in ("key", "jsonPointer", "template")),
]


@given(st.sampled_from(ANYWHERE), JSON)
def test_whatever_is_written_is_read_or_refused_in_one_line_of_ascii(path: str, value: Any) -> None:
    told = told_of(changed(path, value))
    assert all(problem.field and problem.why for problem in told)
    assert all(str(problem).isprintable() for problem in told)


@given(st.text(max_size=20))
def test_a_plain_name_joined_to_a_folder_stays_in_it(name: str) -> None:
    if plain_name_problem(name) is None:
        assert "/" not in name
        assert name not in (".", "..")
        assert relative_path_problem(f"{name}/{name}") is None
