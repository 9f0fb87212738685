"""Which variables are references: what is one, what could be meant as one and is refused, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.cli.run.references import MOST, Reference, folders, references
from kernelsecret.problems import Problem


def read(value: str) -> Reference | Problem | None:
    """What one variable is."""
    found, problems = references({"NAME": value})
    return found[0] if found else problems[0] if problems else None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("vault:secret/data/db#password", Reference("NAME", "vault", "secret/data/db", "password")),
        ("vault:secret/data/db?version=3#password", Reference("NAME", "vault", "secret/data/db", "password", 3)),
        ("vault:database/creds/app#username", Reference("NAME", "vault", "database/creds/app", "username")),
        ("vault:kv/db#a#b", Reference("NAME", "vault", "kv/db", "a#b")),
        ("file:/etc/app/tls.key", Reference("NAME", "file", "/etc/app", "tls.key")),
        ("file:/etc/app#tls.key", Reference("NAME", "file", "/etc/app", "tls.key")),
    ],
)
def test_a_reference_says_what_it_asks_for(value: str, expected: Reference) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "postgres://app@db/shop#x",
        "https://example.com/#top",
        "unix:///run/app.sock",
        "C:/programs",
        "tcp:/host",
        "vault",
        "a vault: of things#1",
        "",
        "profile:/x",
        "default:x#y",
    ],
)
def test_what_is_no_reference_is_left_alone(value: str) -> None:
    assert read(value) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("vault:secret/data/db", "names no key of the secret; write #KEY"),
        ("vault:secret/data/db#", "names no key"),
        ("vault:secret/data/db#a\nb", "has a control character"),
        ("vault:#key", "empty; write the path of Vault's API"),
        ("vault:/secret/data/db#k", "begins with '/' or 'v1/'; write 'secret/data/db'"),
        ("vault:v1/secret/data/db#k", "write 'secret/data/db'"),
        ("vault://secret/data/db#k", "begins with 'vault://'"),
        ("vault:secret/../sys#k", "has '..'"),
        ("vault:secret/data/db?version=0#k", "write ?version=3"),
        ("vault:secret/data/db?verison=3#k", "has '?verison=3'"),
        ("vault:auth/token/lookup-self#id", "own token"),
        ("file:secrets/db#k", "no absolute path; write file:/secrets/db"),
        ("file:///etc/app/key", "write file:/etc/app/key"),
        ("file:/etc/../key", "is not a plain path"),
        ("file:/", "is not the absolute path of a file"),
        ("file:/key", "put it in a folder of its own"),
        ("file:/etc/app#a/b", "has a '/'"),
        ("file:/etc/app#..data", "starts with '..'"),
        ("Vault:secret/data/db#k", "which is not 'vault:'"),
        ("valut:secret/data/db#k", "which is not 'vault:'"),
        ("vautl:secret/data/db#k", "which is not 'vault:'"),
        ("vaul:secret/data/db#k", "which is not 'vault:'"),
        ("vaults:secret/data/db#k", "which is not 'vault:'"),
        ("flie:/etc/app/key", "which is not 'file:'"),
        ("FILE:/etc/app/key", "which is not 'file:'"),
        ("kubernetes:shop/db#k", "without a cluster there are vault: and file: only"),
        ("user:${vault:secret/data/db#k}@host", "only a whole value can be one"),
        (">>vault:secret/data/db#k", "only a whole value can be one"),
    ],
)
def test_what_could_be_meant_as_a_reference_is_refused_by_the_name_of_its_variable(value: str, said: str) -> None:
    problem = read(value)
    assert isinstance(problem, Problem)
    assert problem.field == "NAME"
    assert said in str(problem)
    assert problem.fix


def test_only_named_variables_are_references_where_some_are_named() -> None:
    environment = {"A": "vault:kv/a#k", "B": "file:///config.yml", "C": "vault:kv/c#k"}
    found, problems = references(environment, ["A"])
    assert [one.name for one in found] == ["A"]
    assert not problems


def test_a_named_variable_that_is_not_set_or_no_reference_is_refused() -> None:
    _, problems = references({"A": "plain"}, ["A", "B"])
    assert [(one.field, one.why) for one in problems] == [
        ("A", "is named by --names, and its value is no reference"),
        ("B", "is named by --names, and is not set"),
    ]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    _, problems = references({"A": "vault:x", "B": "file:x", "C": "vault:kv/a#k"})
    assert [one.field for one in problems] == ["A", "B"]


def test_more_references_than_can_be_handed_over_are_refused() -> None:
    _, problems = references({f"N{number}": "vault:kv/a#k" for number in range(MOST + 1)})
    assert f"{MOST} is the most" in str(problems[0])


def test_files_of_a_folder_are_one_secret() -> None:
    found, _ = references(
        {"A": "file:/etc/app/cert", "B": "file:/etc/app#key", "C": "file:/run/x/y", "D": "vault:k/v#k"}
    )
    assert folders(found) == {"/etc/app": {"cert", "key"}, "/run/x": {"y"}}


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused_or_left_alone(text: str) -> None:
    for value in (text, f"vault:{text}", f"file:{text}", f"file:/{text}", f"vault:kv/{text}#{text}"):
        for problem in references({"NAME": value})[1]:
            assert str(problem).isascii()
            assert "\n" not in str(problem)
        read(value)


@given(st.text(max_size=60))
def test_what_begins_as_a_reference_never_passes_as_plain_text(text: str) -> None:
    assert read(f"vault:{text}") is not None
    assert read(f"file:{text}") is not None
