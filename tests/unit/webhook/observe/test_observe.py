from __future__ import annotations

import asyncio
import json
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.errors import Refused
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.telemetry.metric_checks import require_named, require_served
from webhook.observe import trail as trails
from webhook.observe.metrics import DEFINITIONS, Metrics
from webhook.observe.records import Reviewed, to_line
from webhook.observe.trail import Trail

RECORD = Reviewed("refused", 0, "mutate", "u-1", "CREATE", "pods", "payments", "api-*", False, rule="os", why="windows")


def use_everything(metrics: Metrics, word: str = "ok") -> None:
    metrics.review(word, word, 0.0002)
    metrics.refusal(word, word)
    metrics.injection(word)
    metrics.bad_request(415)
    metrics.refreshed(word)
    metrics.handover(word, 0.1)
    metrics.mode_event(word)
    metrics.node_request(word)
    metrics.push(word, 0.01)
    metrics.notice_write(word)
    metrics.push_keys(2, 1)
    metrics.known(word, 3, 0.5)
    metrics.invalid_interceptors(1)
    metrics.state(ready=True, leads=False)
    metrics.certificate_ends(1e9)
    metrics.status_write(word)
    metrics.failure(ValueError("canary"))
    metrics.audit_lost(2)
    metrics.log_fields_dropped(1)


def test_prometheus_own_parser_reads_what_is_served_and_finds_every_metric() -> None:
    metrics = Metrics()
    use_everything(metrics)
    require_served(metrics.render(), DEFINITIONS)


def test_every_metric_is_ours_by_name_and_explained() -> None:
    require_named(DEFINITIONS, "kernelsecret_webhook_")


@given(st.lists(st.text(max_size=40), max_size=200))
def test_whatever_words_come_the_number_of_series_is_bounded(words: list[str]) -> None:
    metrics = Metrics()
    for word in words:
        use_everything(metrics, word)
    series = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert len(series) < 1500
    assert "canary" not in str(series)


def test_a_record_is_one_line_without_what_is_empty() -> None:
    line = to_line(RECORD)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000000000Z",
        "event": "refused",
        "door": "mutate",
        "uid": "u-1",
        "operation": "CREATE",
        "resource": "pods",
        "namespace": "payments",
        "name": "api-*",
        "dry_run": False,
        "rule": "os",
        "why": "windows",
    }


@given(st.text(), st.text(max_size=3000))
def test_a_record_of_any_text_is_one_line_of_bounded_length(name: str, why: str) -> None:
    line = to_line(RECORD._replace(name=name, why=why))
    assert len(line) < 8 * 1024
    assert line[:-1].decode().isprintable()
    assert isinstance(json.loads(line), dict)


def test_a_record_takes_no_bytes() -> None:
    with pytest.raises(TypeError, match=r"^why: a record has no such type of field$"):
        to_line(RECORD._replace(why=b"canary"))  # type: ignore[arg-type]


class Writing:
    """A trail whose task runs, and what it lost."""

    def __init__(self, path: Path, limit: int = 100) -> None:
        self.lost = 0
        self.trail = Trail(path, "A_SETTING", self._lose, limit=limit)

    def _lose(self, count: int) -> None:
        self.lost += count

    async def __aenter__(self) -> Writing:
        self.task = asyncio.create_task(self.trail.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.trail.close()


def names(path: Path) -> list[str]:
    return [json.loads(line)["name"] for line in path.read_text().splitlines()]


async def test_records_come_into_the_file_by_themselves_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "EVERY_S", 0.001)
    path = tmp_path / "audit"
    async with Writing(path) as writing:
        for number in range(50):
            writing.trail.take(RECORD._replace(name=f"p-{number}"))
        await until(lambda: len(names(path)) == 50)
    assert names(path) == [f"p-{number}" for number in range(50)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert writing.lost == 0


async def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    async with Writing(path) as writing:
        writing.trail.take(RECORD)
    assert names(path) == ["api-*"]


async def test_more_than_can_wait_is_lost_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    async with Writing(path, limit=3) as writing:
        for _ in range(5):
            writing.trail.take(RECORD)
    assert len(names(path)) == 3
    assert writing.lost == 2


async def test_a_disk_that_refuses_costs_lines_which_are_counted_and_nothing_else(
    tmp_path: Path, log_lines: LogLines
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    path = folder / "audit"
    async with Writing(path) as writing:
        path.unlink()
        folder.rmdir()
        writing.trail.take(RECORD)
        writing.trail.take(RECORD)
        await writing.trail._flush()
        assert writing.lost == 2
        folder.mkdir()
        writing.trail.take(RECORD)
    assert names(path) == ["api-*"]
    assert [line["event"] for line in log_lines.lines] == ["audit log cannot be written", "audit log written again"]


async def test_a_record_that_cannot_be_written_costs_only_itself(tmp_path: Path, log_lines: LogLines) -> None:
    path = tmp_path / "audit"
    async with Writing(path) as writing:
        writing.trail.take(RECORD._replace(why=b"canary"))  # type: ignore[arg-type]
        writing.trail.take(RECORD)
        await writing.trail._flush()
        assert writing.lost == 1
    assert names(path) == ["api-*"]
    assert "canary" not in log_lines.text


async def test_a_file_that_cannot_be_had_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^A_SETTING: .*ENOENT"):
        Trail(tmp_path / "missing" / "audit", "A_SETTING", lambda count: None)


async def test_it_is_opened_anew_when_told(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    async with Writing(path) as writing:
        path.rename(tmp_path / "audit.1")
        writing.trail.reopen()
        writing.trail.take(RECORD)
    assert names(path) == ["api-*"]
