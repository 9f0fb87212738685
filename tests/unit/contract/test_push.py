from __future__ import annotations

import msgspec
import pytest

from kernelsecret.errors import Refused
from kernelsecret.interceptor import InterceptorSpec
from kernelsecret.push import (
    Push,
    PushedSecret,
    is_signed,
    key_problem,
    named_secrets,
    nonce_problem,
    secret_of,
    sender_problem,
    signature,
    signed_text,
    time_problem,
)

KEY = bytes(range(32))
BODY = b'{"secrets":[{"source":"vault","path":"secret/data/payments/db"}]}'
WHO = ("ci", "1800000000000000000", "0123456789abcdef")


def test_the_wire_does_not_change() -> None:
    assert signed_text(*WHO, BODY) == b"kernelsecret-push-v1\nci\n1800000000000000000\n0123456789abcdef\n" + BODY
    # By: openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f
    assert signature(KEY, *WHO, BODY) == "f6257d56bbf878ab361abffcb14e859d561829ee8c08bdf84414797941c19a9d"
    assert is_signed(KEY, *WHO, BODY, signature(KEY, *WHO, BODY))
    assert not is_signed(KEY[::-1], *WHO, BODY, signature(KEY, *WHO, BODY))


def test_no_two_pushes_have_the_same_signed_text() -> None:
    # Names, times and nonces cannot hold a newline, so that no part can pass for the end of the one before it.
    for problem in (sender_problem, time_problem, nonce_problem):
        for text in ("ci\n", "0123456789abcdef\n", "1800000000000000000\n", "a\nb"):
            assert problem(text) is not None


def test_a_secret_is_written_as_source_and_path() -> None:
    assert secret_of("vault:secret/data/a:b") == PushedSecret("vault", "secret/data/a:b")
    assert str(secret_of("file:payments/db")) == "file:payments/db"
    with pytest.raises(Refused, match="is not SOURCE:PATH"):
        secret_of("payments/db")


def test_a_field_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"secrets": [], "value": "x"}', type=Push)


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"abc" * 342, b"\0" * 64])
def test_keys_that_could_be_guessed_are_not_taken(key: bytes) -> None:
    problem = key_problem(key)
    assert problem is not None
    assert not key or key[:1].hex() not in problem.split()  # who asks with its name is told, and may be anybody


def test_random_keys_are_taken() -> None:
    for key in (KEY, b"abcdefgh" * 4 + b"\n", bytes(range(256)) * 4):
        assert key_problem(key) is None


def test_what_interceptors_name_is_collected_for_every_source() -> None:
    secrets = [
        {"name": "a", "source": {"file": {"path": "payments/db"}}, "files": []},
        {"name": "b", "source": {"vault": {"path": "secret/data/db", "role": "r"}}, "files": []},
        {"name": "c", "source": {"kubernetes": {"name": "web"}}, "files": []},
        {"name": "d", "source": {}, "files": []},
    ]
    spec = msgspec.convert({"namespaceSelector": {}, "secrets": secrets}, InterceptorSpec)
    assert set(map(str, named_secrets([spec, spec]))) == {"file:payments/db", "vault:secret/data/db", "kubernetes:web"}
