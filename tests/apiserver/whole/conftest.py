"""The whole product: a node with a real agent, in the cluster with the real webhook."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.agent.opening import opened
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook
from tests.apiserver.harness.whole import WholeNode
from tests.needs import kernel_lacks, need

_numbers = itertools.count(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: the agent needs the kernel."""
    lack = kernel_lacks()
    need(lack is None, f"{lack} for tests of the whole product")


@pytest.fixture
def node(webhook: Webhook) -> Iterator[WholeNode]:
    """A node of the test's own, without an agent yet; two replicas of the webhook are there."""
    webhook.fill(2)
    # Another test may have let the API server be away, and watches wait before they look again.
    until(
        lambda: webhook.metric("kernelsecret_webhook_view_age_seconds") == 0.0,
        "the webhook's view is current",
        explain=webhook.tails,
    )
    with opened(lambda: WholeNode(webhook, f"whole-{next(_numbers)}")) as made:
        yield made
