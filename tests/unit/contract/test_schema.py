"""The CRD's schema against our own reader: it refuses nothing that the reader accepts, and no unknown field passes."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernelsecret import crd
from kernelsecret.crd_fields import FIELDS
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.problems import Invalid
from kernelsecret.validation import read_interceptor
from kernelsecret.validation_limits import SIGNALS
from tests.unit.contract.builders import MISSING, changed, example


def closed(schema: Any) -> Any:
    """The schema as the API server applies it to what people write: a field that nobody knows is an error."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


VALIDATOR = jsonschema_rs.Draft7Validator(closed(crd.schema()))


def accepts(thing: object) -> bool:
    return VALIDATOR.is_valid(thing)


def is_read(thing: object) -> bool:
    try:
        read_interceptor(thing)
    except Invalid:
        return False
    return True


def filled(schema: dict[str, Any], value: Any) -> Any:
    """A value with the defaults of the schema, as the API server fills them in."""
    if isinstance(value, dict) and "properties" in schema:
        made = dict(value)
        for name, inner in schema["properties"].items():
            if name not in made and "default" in inner:
                made[name] = inner["default"]
            if name in made:
                made[name] = filled(inner, made[name])
        return made
    if isinstance(value, list) and "items" in schema:
        return [filled(schema["items"], item) for item in value]
    return value


def objects(required: dict[str, Any], *, optional: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    made: st.SearchStrategy[Any] = st.fixed_dictionaries(required, optional=optional or {})
    return made


LABELS = st.dictionaries(st.sampled_from(["app", "example.com/tier"]), st.sampled_from(["", "a", "db-1"]))
SELECTORS = objects(
    {},
    optional={
        "matchLabels": LABELS,
        "matchExpressions": st.lists(
            st.one_of(
                objects(
                    {
                        "key": st.just("app"),
                        "operator": st.sampled_from(["In", "NotIn"]),
                        "values": st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3),
                    }
                ),
                objects({"key": st.just("app"), "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
            ),
            max_size=3,
        ),
    },
)
# Mostly what is good, up to the bounds; what is bad stands in the tables below.
LONGEST = "/".join(["x" * 127] * 7 + ["x" * 128])
MODES = st.sampled_from([0o400, 0o440, 0o444, "0400", "440", "0o444", "4", "0004", 0o004])
SIZES = st.sampled_from([1, 65536, "64Ki", "1Mi", "1048576", "000001", 1 << 20, "999k", "1M"])
LETTERS = st.characters(exclude_characters="/.", exclude_categories=["Cc", "Cs"])
PLAIN = st.one_of(st.sampled_from(["tls.crt", ".pgpass", "a..b"]), st.text(LETTERS, min_size=1, max_size=8))
PATHS = st.sampled_from(["a", "payments/db", ".hidden/x", "a/b..c", LONGEST])
PROGRAMS = st.sampled_from(["/bin/sh", "/usr/bin/a b", "/a/.b/..c.d", "/a/b.", "/" + LONGEST])
DURATIONS = st.sampled_from(["1s", "500ms", "1m30s", "24h", "1.5h", "0.1s", "50ms50ms", "23h60m"])
CONTAINERS = st.lists(st.sampled_from(["app", "web-1", "a" * 63, "0"]), max_size=4, unique=True)
COUNTS = st.sampled_from([1, 256, 4096])
VAULT_PATHS = st.sampled_from(["secret/data/payments/db", "a b/c%2F", "x" * 1024, "ü/é"])
ROLES = st.sampled_from(["payments", "r" * 253, "a.b_c-d"])
VAULT = {
    "namespace": st.sampled_from(["", "admin", "admin/team-a"]),
    "version": st.sampled_from([0, 1, (1 << 31) - 1]),
    "parameters": st.dictionaries(st.sampled_from(["common_name", "ttl", "x" * 64]), st.sampled_from(["", "v" * 1024])),
}
AUTH = objects(
    {},
    optional={
        "method": st.sampled_from(["kubernetes", "jwt"]),
        "mount": st.sampled_from(["", "kubernetes", "k8s/east"]),
        "audience": st.sampled_from(["vault", "https://vault.example.com", "a" * 253]),
    },
)
AS = st.sampled_from(["pod", "agent"])
POINTERS = st.sampled_from(["", "/", "/a/0/b~1c~0", "/ü", "/" * 32, "/" + "x" * 511])
DECODE = st.just("base64")
TEMPLATES = st.sampled_from(
    ["{{ username }}:{{ password }}", "{{ . | json }}", "{{ ca | lines }}\n", '{{ "{{" }}{{a}}', "{{a}}" + "x" * 4091]
)
SOURCES = st.one_of(
    objects({"file": objects({"path": PATHS})}),
    objects({"vault": objects({"path": VAULT_PATHS, "role": ROLES}, optional=VAULT | {"auth": AUTH})}),
    objects(
        {
            "vault": objects(
                {"path": VAULT_PATHS, "auth": objects({"method": st.just("appRole"), "credential": PLAIN})},
                optional=VAULT,
            )
        }
    ),
    objects(
        {"kubernetes": objects({"name": st.sampled_from(["db", "db.v2"])}, optional={"readAs": AS})},
    ),
)
FILES = st.one_of(
    objects({"path": PLAIN, "key": PLAIN}, optional={"mode": MODES, "jsonPointer": POINTERS, "decode": DECODE}),
    objects({"path": PLAIN, "template": TEMPLATES}, optional={"mode": MODES}),
)
SPECS = objects(
    {
        "namespaceSelector": SELECTORS,
        "secrets": st.lists(
            objects(
                {
                    "name": st.sampled_from(["db", "tls", "cache", "a" * 63]),
                    "source": SOURCES,
                    "files": st.lists(
                        FILES,
                        min_size=1,
                        max_size=3,
                        unique_by=lambda file: file["path"],
                    ),
                }
            ),
            min_size=1,
            max_size=2,
            unique_by=lambda secret: secret["name"],
        ),
    },
    optional={
        "podSelector": SELECTORS,
        "delivery": objects(
            {},
            optional={
                "modes": st.lists(st.sampled_from(["ebpf", "preload", "vault-agent"]), min_size=1, unique=True),
                "placement": st.sampled_from(["prefer", "require"]),
                "onUnavailable": st.sampled_from(["keep", "refuse"]),
                "containers": CONTAINERS,
            },
        ),
        "access": objects(
            {},
            optional={
                "from": st.sampled_from(["app", "main", "any"]),
                "binaries": st.lists(PROGRAMS, max_size=3, unique=True),
                "ephemeralContainers": st.sampled_from(["allow", "refuse"]),
            },
        ),
        "rotation": objects(
            {},
            optional={
                "pollInterval": DURATIONS,
                "minInterval": DURATIONS,
                "revokeAfter": st.sampled_from(["5s", "5m", "24h", "0.1m"]),
                "notify": objects(
                    {"signal": st.sampled_from(SIGNALS)}, optional={"process": PROGRAMS | st.just("main")}
                ),
            },
        ),
        "limits": objects(
            {},
            optional={
                "maxFileBytes": SIZES,
                "openFiles": COUNTS,
                "pod": objects({}, optional={"bytes": SIZES, "files": COUNTS, "volumes": COUNTS}),
            },
        ),
    },
)


@settings(max_examples=50)
@given(SPECS)
def test_the_schema_refuses_no_interceptor_that_is_accepted_here(spec: Any) -> None:
    thing = {**example(), "spec": spec}
    assume(is_read(thing))
    VALIDATOR.validate(thing)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.secrets.0.files.0.mode", mode)
        for mode in (4, 32, 36, 256, 260, 288, 292, "4", "04", "0004", "40", "044", "400", "0444", "0o440", "00440")
    ]
    + [("spec.limits.maxFileBytes", size) for size in (1, "1", "1Mi", 1 << 20)]
    + [("spec.delivery.containers", [f"c{n}" for n in range(64)]), ("spec.access.binaries", ["/" + LONGEST])]
    + [("spec.secrets.0.source.file.path", LONGEST), ("spec.secrets.0.files.0.path", "ü" * 127)],
)
def test_the_outermost_that_is_accepted_here_is_accepted_there(path: str, value: object) -> None:
    thing = changed(path, value)
    read_interceptor(thing)
    VALIDATOR.validate(thing)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.namespaceSelector", MISSING),
        ("spec.secrets", MISSING),
        ("spec.secrets", []),
        ("spec.secrets", 3),
        ("spec.secret", []),
        ("spec.secrets.0.source.file.paht", "a"),
        ("spec.secrets.0.files.0.key", 3),
        ("spec.secrets.0.files.0.mode", "rw"),
        ("spec.secrets.0.files.0.mode", "0640"),
        ("spec.secrets.0.files.0.mode", "000"),
        ("spec.secrets.0.files.0.mode", 440),
        ("spec.secrets.0.files.0.mode", 1.5),
        ("spec.secrets.0.files.0.decode", "hex"),
        ("spec.secrets.0.files.0.jsonPointer", "/" + "x" * 512),
        ("spec.secrets.0.source", {"vault": {"path": "", "role": "r"}}),
        ("spec.secrets.0.source", {"vault": {"path": "x" * 1025, "role": "r"}}),
        ("spec.secrets.0.source", {"vault": {"path": "x", "role": "r" * 254}}),
        ("spec.secrets.0.source", {"vault": {"path": "x", "role": "r", "version": -1}}),
        ("spec.secrets.0.source", {"vault": {"path": "x", "role": "r", "auth": {"method": "token"}}}),
        ("spec.secrets.0.source", {"vault": {"path": "x", "role": "r", "parameters": {"a": 1}}}),
        ("spec.secrets.0.source", {"vault": {"path": "x", "role": "r", "parameters": {"a": "v" * 1025}}}),
        ("spec.secrets.0.source", {"vault": {"path": "x", "role": "r", "parameters": {str(n): "" for n in range(17)}}}),
        ("spec.secrets.0.source", {"kubernetes": {"name": "db", "readAs": "node"}}),
        ("spec.delivery.modes", ["bpf"]),
        ("spec.delivery.modes", []),
        ("spec.delivery.containers", [3]),
        ("spec.delivery.containers", ["a" * 64]),
        ("spec.delivery.containers", [f"c{n}" for n in range(65)]),
        ("spec.access.from", "root"),
        ("spec.access.ephemeralContainers", True),
        ("spec.rotation.notify.signal", "SIGKILL"),
        ("spec.limits.openFiles", 0),
        ("spec.limits.pod.volumes", "many"),
        ("spec.podSelector.matchLabels", {"a": 1}),
        ("spec.podSelector.matchExpressions", [{"key": "a", "operator": "Is"}]),
    ],
)
def test_what_the_schema_can_say_it_refuses_as_we_do(path: str, value: object) -> None:
    thing = changed(path, value)
    assert not is_read(thing)
    assert not accepts(thing)


@settings(max_examples=50)
@given(SPECS)
def test_the_defaults_that_the_api_server_fills_in_are_ours(spec: Any) -> None:
    thing = {**example(), "spec": spec}
    assume(is_read(thing))
    assert read_interceptor(filled(crd.schema(), thing)) == read_interceptor(thing)


def parts(schema: Any) -> list[dict[str, Any]]:
    """Every schema in a schema."""
    if not isinstance(schema, dict):
        return []
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return [schema, *(found for one in inner for found in parts(one))]


def test_every_list_says_how_two_of_it_are_merged_and_every_rule_has_a_remedy() -> None:
    found = parts(crd.schema())
    lists = [one for one in found if one.get("type") == "array"]
    assert lists
    assert all(one.get("x-kubernetes-list-type") in ("map", "set", "atomic") for one in lists)
    rules = [rule for one in found for rule in one.get("x-kubernetes-validations", [])]
    assert len(rules) > 20
    for rule in rules:
        assert ";" in rule["message"] or " such as " in rule["message"], f"no remedy: {rule['message']}"
        assert len(rule["message"]) <= 2048


def test_every_field_is_explained_to_kubectl() -> None:
    spec, status = (crd.schema()["properties"][name]["properties"] for name in ("spec", "status"))
    described = [one for top in (*spec.values(), *status.values()) for one in parts(top) if "properties" in one]
    for one in described:
        for name, field in one["properties"].items():
            assert field.get("description", "").endswith("."), name


def test_a_field_that_the_table_does_not_describe_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = msgspec.structs.fields(SecretInterceptor)
    spec = next(field.type for field in fields if field.name == "spec")
    lacking = {name: field for name, field in FIELDS[spec].items() if name != "access"}
    monkeypatch.setattr(crd, "FIELDS", {**FIELDS, spec: lacking})
    with pytest.raises(LookupError, match="access"):
        crd.definition()
