from __future__ import annotations

import json

import pytest

from tests.unit.webhook.builders import body, pod
from tests.unit.webhook.server.asgi import ask
from tests.unit.webhook.server.parts import Parts


async def test_health_is_that_the_event_loop_answers() -> None:
    said = await ask(Parts().app(), "/healthz", method="GET")
    assert (said.status, json.loads(said.body)) == (200, {"ok": True})


async def test_ready_with_everything_listed_and_a_certificate() -> None:
    said = await ask(Parts().app(), "/readyz", method="GET")
    assert said.status == 200
    assert json.loads(said.body) == {"ready": True, "missing": [], "stale": [], "age_s": {}}


async def test_not_ready_says_what_is_missing() -> None:
    parts = Parts()
    parts.known.unsynced = ["nodes"]
    parts.known.ages_s = {"nodes": float("inf"), "namespaces": 0.0}
    parts.keys.is_ready = False
    app = parts.app()
    parts.readiness.is_draining = True
    said = await ask(app, "/readyz", method="GET")
    assert said.status == 503
    told = json.loads(said.body)
    assert told["missing"] == ["nodes: not listed yet", "Secret keys: there are no keys yet", "draining"]
    assert told["age_s"] == {"nodes": None, "namespaces": 0.0}


async def test_an_api_server_that_is_away_leaves_it_ready_and_is_told() -> None:
    parts = Parts()
    parts.known.stale = ["nodes"]
    parts.known.ages_s = {"nodes": 41.27}
    said = await ask(parts.app(), "/readyz", method="GET")
    assert said.status == 200
    assert json.loads(said.body) == {"ready": True, "missing": [], "stale": ["nodes"], "age_s": {"nodes": 41.3}}


async def test_waiting_for_readiness_ends_when_it_is_there() -> None:
    parts = Parts()
    parts.app()
    await parts.readiness.wait()


async def test_metrics_are_prometheus_text() -> None:
    parts = Parts()
    app = parts.app()
    await ask(app, "/mutate", body(pod()))
    said = await ask(app, "/metrics", method="GET")
    assert said.status == 200
    assert said.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    assert b'kernelsecret_webhook_reviews_total{door="mutate",outcome="injected"} 1.0' in said.body


async def test_metrics_that_cannot_be_collected_are_no_500() -> None:
    parts = Parts()

    def broken() -> None:
        raise ValueError("canary")

    parts.metrics.refresh = broken
    said = await ask(parts.app(), "/metrics", method="GET")
    assert said.status == 503
    assert b"canary" not in said.body


@pytest.mark.parametrize("path", ["/mutate", "/validate", "/bind"])
async def test_every_door_is_open_to_post_only(path: str) -> None:
    app = Parts().app()
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        said = await ask(app, path, method=method)
        assert said.status == 405
        assert said.headers[b"allow"] == b"POST"
    assert (await ask(app, path, method="POST", headers=())).status == 415


@pytest.mark.parametrize("path", ["/", "/mutate/", "/docs", "/openapi.json", "/redoc", "//mutate", "/mutat\u00e9"])
async def test_nothing_else_is_there(path: str) -> None:
    app = Parts().app()
    for method in ("GET", "POST"):
        assert (await ask(app, path, method=method)).status == 404
