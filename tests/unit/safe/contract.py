"""What every safe does, as tests: each kind of safe runs them (`class TestX(SafeContract)` with a fixture `safe`)."""

from __future__ import annotations

import pytest

from agent.model import Safe
from agent.safe import MOST_BLOB_BYTES, MOST_BYTES, MOST_NAME_BYTES, OVERHEAD_BYTES
from kernelsecret.errors import Code, Refused


def filled(safe: Safe) -> int:
    """Fill it with large blobs until nothing of that size fits; how many did."""
    for count in range(2 * MOST_BYTES // MOST_BLOB_BYTES):
        try:
            safe.put(f"large-{count}", b"x" * MOST_BLOB_BYTES)
        except Refused as refused:
            if refused.code is not Code.RESOURCE_EXHAUSTED:
                raise
            return count
    raise AssertionError("it has no bound")


class SafeContract:
    def test_what_was_put_is_there_and_nothing_else(self, safe: Safe) -> None:
        blobs = {"vault-token:payments": b"token", "vault-lease:db": b"", "ü/ \n": bytes(range(256)) * 256}
        for name, blob in blobs.items():
            safe.put(name, blob)
        assert {name: safe.get(name) for name in safe.names()} == blobs
        assert safe.names() == sorted(blobs)
        assert safe.get("vault-token") is None

    def test_a_later_blob_takes_the_place_of_an_earlier_one_of_any_size(self, safe: Safe) -> None:
        for size in (10, 5000, 0, MOST_BLOB_BYTES, 1):
            safe.put("token", b"x" * size)
            assert safe.get("token") == b"x" * size
        assert safe.names() == ["token"]

    def test_what_was_dropped_is_gone_and_may_be_dropped_again(self, safe: Safe) -> None:
        safe.put("token", b"old")
        safe.drop("token")
        safe.drop("token")
        assert (safe.names(), safe.get("token")) == ([], None)
        safe.put("token", b"new")
        assert safe.get("token") == b"new"

    def test_what_does_not_fit_is_refused_and_what_was_there_stays(self, safe: Safe) -> None:
        safe.put("token", b"kept")
        with pytest.raises(Refused, match="65537 bytes") as refused:
            safe.put("token", b"x" * (MOST_BLOB_BYTES + 1))
        assert refused.value.code is Code.RESOURCE_EXHAUSTED
        for name in ("", "x" * (MOST_NAME_BYTES + 1), "ü" * 65):
            with pytest.raises(Refused, match=f"where 1 to {MOST_NAME_BYTES} fit") as refused:
                safe.put(name, b"")
            assert refused.value.code is Code.INVALID_ARGUMENT
        assert {name: safe.get(name) for name in safe.names()} == {"token": b"kept"}
        safe.put("x" * MOST_NAME_BYTES, b"x" * MOST_BLOB_BYTES)

    def test_a_full_safe_refuses_more_and_keeps_what_it_has(self, safe: Safe) -> None:
        safe.put("token", b"kept")
        count = filled(safe)
        assert count == MOST_BYTES // (MOST_BLOB_BYTES + OVERHEAD_BYTES + len("large-000"))
        assert safe.get("token") == b"kept"
        assert len(safe.names()) == count + 1
        safe.put("large-0", b"y" * MOST_BLOB_BYTES)
        safe.drop("large-1")
        safe.put("another", b"x" * MOST_BLOB_BYTES)
        for name in safe.names():
            safe.drop(name)
        assert filled(safe) == count, "nothing is counted that is not there"

    def test_a_value_is_in_no_refusal_and_in_no_representation(self, safe: Safe) -> None:
        secret = "hunter2"
        safe.put("token", secret.encode())
        with pytest.raises(Refused) as refused:
            safe.put("token", secret.encode() * MOST_BLOB_BYTES)
        assert secret not in str(refused.value) + repr(refused.value) + repr(safe) + str(safe.names())
