from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agent.registrations.trust import TrustView, read_trust
from apiclient import paths
from apiclient.backoff import Backoff
from apiclient.client import ApiClient
from apiclient.connection import Connection
from apiclient.reflector import Reflector
from kernelsecret.errors import Code, Refused
from kernelsecret.names import SYSTEM_NAMESPACE, TRUST_OBJECT
from kernelsecret.trust import Trust
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.registrations import scene

CA = scene.authority().certificate_pem


def keys(**changed: Any) -> dict[str, Any]:
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    return {"id": "a", "publicKey": base64.b64encode(b"k" * 32).decode(), "notAfter": later} | changed


def config_map(ca: str = CA, listed: object = None, **data: str) -> dict[str, Any]:
    text = listed if isinstance(listed, str) else msgspec.json.encode(listed or [keys()]).decode()
    return {
        "metadata": {"name": TRUST_OBJECT, "namespace": SYSTEM_NAMESPACE},
        "data": {"ca.crt": ca, "registration-keys.json": text} | data,
    }


def test_the_published_trust_is_read() -> None:
    both = CA + scene.authority().certificate_pem
    found = read_trust(msgspec.json.encode(config_map(both, [keys(), keys(id="b")])))
    assert found is not None
    assert found.authorities == both
    assert [one.id for one in found.registration_keys] == ["a", "b"]


@pytest.mark.parametrize(
    ("ca", "listed", "field"),
    [
        ("", None, "data[ca.crt]"),
        ("x", None, "data[ca.crt]"),
        (scene.node_pair(scene.authority())[0], None, "data[ca.crt]"),
        (CA + scene.node_pair(scene.authority())[1], None, "data[ca.crt]"),
        (CA, "", "data[registration-keys.json]"),
        (CA, "[]", "data[registration-keys.json]"),
        (CA, "[" * 5000, "data[registration-keys.json]"),
        (CA, [keys(publicKey="c2hvcnQ=")], "data[registration-keys.json][0].publicKey"),
        (CA, [keys(id="")], "data[registration-keys.json][0].id"),
        (CA, [keys(), keys()], "data[registration-keys.json]"),
        (CA, [keys(notAfter="2030-01-01T00:00:00")], "data[registration-keys.json][0].notAfter"),
    ],
)
def test_damage_is_refused_by_its_field(ca: str, listed: object, field: str) -> None:
    with pytest.raises(Refused) as refused:
        read_trust(msgspec.json.encode(config_map(ca, listed)))
    assert refused.value.code is Code.FAILED_PRECONDITION
    assert field in refused.value.why
    assert "PRIVATE" not in str(refused.value)


def test_another_object_is_no_trust() -> None:
    other = config_map()
    other["metadata"]["name"] = "kube-root-ca.crt"
    assert read_trust(msgspec.json.encode(other)) is None
    with pytest.raises(Refused):
        read_trust(b"\xff")


def test_a_trust_that_cannot_be_used_leaves_the_one_before() -> None:
    good = Trust(authorities=CA, registration_keys=())

    def refuse(trust: Trust) -> None:
        if trust is not good:
            raise Refused(Code.FAILED_PRECONDITION, "trust", "cannot be used")

    view = TrustView(refuse)
    view.changed("", None, good)
    with pytest.raises(Refused):
        view.changed("", good, Trust(authorities="x", registration_keys=()))
    assert view._trust is good


async def test_the_one_object_is_followed_live_and_its_damage_or_loss_keeps_the_last_good(log_lines: LogLines) -> None:
    seen: list[Trust] = []
    view: TrustView = TrustView(seen.append)
    api = FakeApiServer()
    async with serving(api) as url, ApiClient(Connection(url)) as client:
        reflector = Reflector(
            client,
            paths.config_maps(SYSTEM_NAMESPACE),
            read_trust,
            key=_one,
            selectors=paths.only(TRUST_OBJECT),
            on_change=view.changed,
            backoff=Backoff(0.001, 0.002),
        )
        running = asyncio.create_task(reflector.run())
        assert not view.is_known
        assert list(view.keys) == []

        async def publish(content: dict[str, Any]) -> None:
            await api.put("configmaps", TRUST_OBJECT, SYSTEM_NAMESPACE, **content)

        await publish(config_map(listed=[keys()]))
        await until(lambda: len(seen) == 1)
        await publish(config_map(listed=[keys(), keys(id="b")]))
        await until(lambda: len(seen) == 2)
        await publish(config_map(ca="damaged"))
        await until(lambda: "trust cannot be read" in log_lines.text)
        assert [one.id for one in view.keys] == ["a", "b"]
        await api.remove("configmaps", TRUST_OBJECT, SYSTEM_NAMESPACE)
        await publish(config_map(listed=[keys(id="c")]))
        await until(lambda: len(seen) == 3)
        assert [one.id for one in view.keys] == ["c"]
        assert "fieldSelector" in api.requests[0].query_string
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _one(_: Trust) -> str:
    return TRUST_OBJECT
