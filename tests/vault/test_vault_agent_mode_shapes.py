"""What the real Vault Agent renders of our templates is what our own agent would show, byte for byte, or nothing."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent.sources.vault.flatten import values_of
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.shapes import Shape, render, shape_of
from kernelsecret.validation import MAX_FILES
from tests.apiserver.harness.waiting import until
from tests.vault.agent_pods import file, interceptor, may, running, secret
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer

AWKWARD = "a\"b\\c<&>'`${x}{{y}}\u2028\\u2028\u2029\\\\\u2029\x7f\t\r\n\x01é😀 "
VALUES: dict[str, Any] = {
    "username": "app",
    "password": 'pa"ss',
    "empty": "",
    "awkward": AWKWARD,
    "number": -1234567.25,
    "truth": True,
    "none": None,
    "object": {"b": [1, "x<\u2028"], "a": {"c": None}},
    "list": ["one\n\n", "two", True, None],
    "json": '{"hosts": [{"name": "db-1"}, "second"], "tls/ca": "LS0t\\nCg==", "~": "\\u0041\\ud83d\\ude00", "t": true,'
    ' "n": null, "": {"": "deep"}, "0": "zero", "dup": 1, "dup": "last"}',
    "lines": '["-----A-----\\n", "-----B-----", false, ""]',
    "base64": " aG\tk=\r\n",
    "binary": "/wD+gA==",
    "blank": " \t\r\n x y \u00a0\u2003\n",
    "tls.crt": "dotted",
}
SHAPES: list[dict[str, Any]] = [
    *({"key": key} for key in VALUES if key != "none"),
    {"key": "json", "jsonPointer": "/hosts/0/name"},
    {"key": "json", "jsonPointer": "/hosts/1"},
    {"key": "json", "jsonPointer": "/tls~1ca", "decode": "base64"},
    {"key": "json", "jsonPointer": "/~0"},
    {"key": "json", "jsonPointer": "/t"},
    {"key": "json", "jsonPointer": "/n"},
    {"key": "json", "jsonPointer": "//"},
    {"key": "json", "jsonPointer": "/0"},
    {"key": "json", "jsonPointer": "/dup"},
    {"key": "object", "jsonPointer": "/b/1"},
    {"key": "list", "jsonPointer": "/0"},
    {"key": "truth", "jsonPointer": ""},
    {"key": "base64", "decode": "base64"},
    {"key": "binary", "decode": "base64"},
    {"key": "empty", "decode": "base64"},
    {"template": "{{ username }}:{{ password }}"},
    {"template": '{"password": {{ password | json }}, "a": {{ awkward | json }}}'},
    {"template": "{{ awkward | base64 }}"},
    {"template": "{{ base64 | base64decode | trim }}!"},
    {"template": "{{ binary | base64decode }}{{ binary | base64decode | base64 | json }}"},
    {"template": "{{ lines | lines }}\n"},
    {"template": "{{ lines | lines | base64 | json | base64 }}"},
    {"template": "{{ list | lines }}"},
    {"template": "[{{ blank | trim }}]"},
    {"template": 'a {{ "{{" }} stays {{ "$" }}{x} {{ username }}'},
    {"template": "${aws:{{ username }}} \u2028 {{ . | json }}"},
    {"template": "{{ . | json | json }}{{ empty | json }}{{ empty | base64 }}{{ empty | trim }}"},
    {"template": "{{ number | json }}{{ truth }}{{ object | json }}{{ object }}"},
]
# What would be shown with other bytes, or is not there. Each says why.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"key": "json", "jsonPointer": "/hosts"}, "does not keep how else it was written"),
    ({"key": "big", "jsonPointer": "/n"}, "does not keep how else it was written"),
    ({"key": "json", "jsonPointer": "/hosts/2"}, "there is no '2'"),
    ({"key": "json", "jsonPointer": "/hosts/01"}, "there is no '01'"),
    ({"key": "json", "jsonPointer": "/none"}, "there is no 'none'"),
    ({"key": "json", "jsonPointer": "/t/x"}, "there is no 'x'"),
    ({"key": "half", "jsonPointer": "/h"}, "is not JSON of whole characters"),
    ({"key": "username", "jsonPointer": "/h"}, "parseJSON"),
    ({"key": "username", "decode": "base64"}, "base64Decode"),
    ({"template": "{{ binary | base64decode | json }}"}, "is not UTF-8 text"),
    ({"template": "{{ username | lines }}"}, "parseJSON"),
    ({"template": "{{ json | lines }}"}, "is no JSON list"),
    ({"template": "{{ numbers | lines }}"}, "does not keep how else it was written"),
    ({"template": "{{ many | lines }}"}, "has too many items"),
    ({"key": "large"}, "makes more than 65536 bytes"),
]
MORE: dict[str, Any] = {
    "big": '{"n": 1.50}',
    "half": '{"h": "\\ud800"}',
    "numbers": "[1]",
    "many": str([0] * 4097),
    "large": "x" * 65537,
}


def expected(wanted: SecretInterceptor, data: dict[str, Any]) -> dict[str, bytes]:
    """What our own agent would show, by file."""
    values = values_of("secret", data)
    return {
        one.path: render(shape_of(one) or Shape(key=one.key), values)
        for each in wanted.spec.secrets
        for one in each.files
    }


def test_every_shape_is_rendered_as_our_own_agent_would(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path
) -> None:
    vault.write(f"{kv}/data/db", data=VALUES)
    token = may(vault, jwt, f"{kv}/data/*: read")
    shown = [{"path": f"file-{number}", **shape} for number, shape in enumerate(SHAPES)]
    wanted = interceptor(secret(jwt, f"{kv}/data/db", *shown))
    with running(tmp_path / "pod", vault, token, wanted) as pod:
        init = pod.init()
        assert init.wait() == 0, init.tail()
        for name, value in expected(wanted, vault.read(f"{kv}/data/db")["data"]["data"]).items():
            assert pod.shows(name) == value, SHAPES[int(name.removeprefix("file-"))]


def test_what_cannot_be_shown_as_it_is_leaves_no_file_and_says_why_without_the_value(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path
) -> None:
    vault.write(f"{kv}/data/db", data=VALUES | MORE)
    token = may(vault, jwt, f"{kv}/data/*: read")
    shown = [{"path": f"file-{number}", **shape} for number, (shape, _) in enumerate(REFUSED)]
    wanted = interceptor(
        secret(jwt, f"{kv}/data/db", *shown, file("last", "username")), limits={"maxFileBytes": "64Ki"}
    )
    with running(tmp_path / "pod", vault, token, wanted) as pod:
        sidecar = pod.sidecar()
        pod.wait_for("last", b"app")
        said = sidecar.said()
        assert [path.name for path in pod.files.iterdir()] == ["last"]
        for number, (_, why) in enumerate(REFUSED):
            lines = [line for line in said.splitlines() if f"file-{number}'" in line or why in line]
            assert any(why in line for line in lines), (number, why)
        assert "db-1" not in said
        assert "x" * 100 not in said
        init = pod.init()
        assert init.wait() == 1
        assert "file-0" in init.said()


LETTERS = st.characters(exclude_categories=("Cs", "Cc"))
NAMES = st.one_of(
    st.text(LETTERS, min_size=1, max_size=12),
    st.text(st.sampled_from("{}\"\\`$<>%&=;|'()*/ \u2028.-#?"), min_size=1, max_size=10),
    st.sampled_from(
        ["{{", "}}", '"}}{{.}}', "${x}", "${", '{{"', "*/}}", "-}}", "`", '\\"', "%00", "a=b", "{{/*", "\\"]
    ),
).map(lambda name: name.replace("/", "_").lstrip(".") or "x")
# Vault takes no path with a character that cannot be printed.
FOLDERS = st.text(st.sampled_from("{}\"\\`$<>%&=;|'()* .-+:@aé"), min_size=1, max_size=10).map(lambda name: f"x{name}x")
VALUE = st.text(max_size=20)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # Each example starts programs: what fails is shown as it is.
    phases=(Phase.generate,),
)
@given(data=st.data())
def test_no_name_can_break_out_of_the_template_or_the_settings(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path, data: st.DataObject
) -> None:
    keys = data.draw(st.dictionaries(NAMES, VALUE, min_size=1, max_size=20))
    paths = data.draw(st.lists(NAMES, min_size=len(keys), max_size=len(keys), unique=True))
    text = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="{}"), max_size=15)
    text |= st.sampled_from(['{{ "{{" }}', '{{ "${" }}x}', '{{ "{x}" }} {x', "}} "])
    shown = [file(path, key) for path, key in zip(paths, keys, strict=True)]
    fit = [key for key in keys if not re.search(r'[\s"{}|]', key) and key != "."]
    shown += [
        {"path": f"template {index}", "template": f"{data.draw(text)}{{{{ {key} | json }}}}{data.draw(text)}"}
        for index, key in enumerate(fit[:10])
    ]
    name = data.draw(FOLDERS.filter(lambda name: ".." not in name))
    folder = uuid.uuid4().hex
    vault.root.adapter.post(f"/v1/{kv}/data/{folder}", json={"data": keys})
    token = may(vault, jwt, f"{kv}/data/*: read")
    wanted = interceptor(secret(jwt, f"{kv}/data/{folder}", *shown[:MAX_FILES]))
    with running(tmp_path / folder, vault, token, wanted) as pod:
        init = pod.init()
        assert init.wait() == 0, init.tail()
        for path, value in expected(wanted, keys).items():
            assert pod.shows(path) == value, path
    awkward = interceptor(secret(jwt, f"{kv}/data/{name}", file("x")))
    with running(tmp_path / f"{folder}-path", vault, token, awkward) as pod:
        sidecar = pod.sidecar()
        asked = f"{kv}/data/{name}"
        until(lambda: any(one.path == asked for one in vault.audit.requests(kv)), asked, explain=sidecar.tail)
