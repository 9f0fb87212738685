"""What all tests share: a marker for each tier by its folder, and what the kernel tier needs of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.needs import kernel_lacks, need

TIERS = ("unit", "contract", "preload", "kernel", "agent", "apiserver", "vault", "kernels")
ON_THE_KERNEL = ("kernel", "agent")
HERE = Path(__file__).parent

# CI repeats the same examples, so that a red run can be run again; a developer's machine looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "developer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(HERE).parts[0]
        if tier in TIERS:
            item.add_marker(tier)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in plain words that a green run left a tier out."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if set(ON_THE_KERNEL) & set(r.keywords)]
    if skipped and (lack := kernel_lacks()):
        terminalreporter.section("the kernel tier did not run", yellow=True)
        terminalreporter.line(f"{len(skipped)} tests of the kernel need {lack}. As root, with BPF: make test-kernel")
    asked = [r for r in terminalreporter.stats.get("skipped", []) if "apiserver" in r.keywords]
    if asked:
        terminalreporter.section("tests with an API server did not run", yellow=True)
        terminalreporter.line(f"{len(asked)} tests were skipped. What they need comes by make test-apiserver;")
        terminalreporter.line("those of the whole product, with an agent, need root and BPF besides")
    sealed = [r for r in terminalreporter.stats.get("skipped", []) if "vault" in r.keywords]
    if sealed:
        terminalreporter.section("tests with a Vault did not run", yellow=True)
        terminalreporter.line(f"{len(sealed)} tests were skipped. What they need comes by make test-vault")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of a kernel test, which may already touch the kernel."""
    if any(item.get_closest_marker(tier) for tier in ON_THE_KERNEL):
        lack = kernel_lacks()
        need(lack is None, f"{lack} for tests of the kernel")
