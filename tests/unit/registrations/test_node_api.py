from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.errors import Code, Refused
from kernelsecret.node_api import STATUS, node_host, node_of, refusal_of, refused_by


@pytest.mark.parametrize("code", list(Code))
def test_a_refusal_means_the_same_on_the_other_side(code: Code) -> None:
    said = Refused(code, "registration.node", "is not this node", "hand it to its own")
    heard = refused_by("webhook", STATUS[code], refusal_of(said))
    assert (heard.code, str(heard)) == (code, str(said))


@given(status=st.integers(300, 599), body=st.binary(max_size=100))
def test_whatever_else_answers_is_told_by_its_status_and_not_by_its_words(status: int, body: bytes) -> None:
    heard = refused_by("webhook", status, b"<html>" + body)
    assert heard.field == "webhook"
    assert str(status) in heard.why
    assert (heard.code is Code.UNAVAILABLE) == (status >= 500 or status == 429)


def test_what_the_other_side_says_cannot_forge_a_line_or_fill_the_log() -> None:
    long = Refused(Code.NOT_FOUND, "a\nb", "x" * 10_000, "\x1b[31m")
    heard = refused_by("webhook", 404, refusal_of(long))
    assert str(heard).isprintable()
    assert len(str(heard)) < 1000


@pytest.mark.parametrize("node", ["node-1", "a.b.example"])
def test_a_nodes_name_comes_back_from_its_host(node: str) -> None:
    assert node_of(node_host(node)) == node


@pytest.mark.parametrize(
    "host", ["", "nodes.kernelsecret.io", ".nodes.kernelsecret.io", "node-1", "a.nodes.kernelsecret.io.evil"]
)
def test_other_hosts_are_no_nodes(host: str) -> None:
    assert node_of(host) is None
