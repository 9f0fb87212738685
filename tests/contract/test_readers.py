"""docs/readers.md says what the kernel tests hold."""

from __future__ import annotations

from tests.kernel.harness.readers import READERS
from tests.kernel.harness.readers_page import PAGE, page

PROMISED = ("python", "node", "java", "go", "nginx", "openssl", "psql", "curl", "bash", "busybox")


def test_the_page_of_readers_is_that_of_the_tests() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.kernel.harness.readers_page"


def test_every_promised_program_is_tried() -> None:
    assert set(PROMISED) <= {reader.program for reader in READERS}


def test_who_reads_empty_on_refusal_is_told_so() -> None:
    text = PAGE.read_text()
    deceived = [reader for reader in READERS if reader.is_deceived]
    assert deceived
    for reader in deceived:
        assert f"| {reader.program} | {reader.way} | **reads empty and goes on**" in text
