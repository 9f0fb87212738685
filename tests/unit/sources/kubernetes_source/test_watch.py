"""What observers are told of a Secret, and when: changes, deletion, rights, tokens, faults of the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent.model import SecretRef
from agent.sources.kubernetes import tracker
from kernelsecret.errors import Code, Refused
from tests.unit.conftest import LogLines
from tests.unit.sources.kubernetes_source.fake_secrets import FakeSecrets, Fault
from tests.unit.sources.kubernetes_source.scene import BY_AGENT, POD, REF, Scene, reading, watching


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a test's length."""
    monkeypatch.setattr(tracker, "OWN_TROUBLE_S", (0.02, 0.02))
    monkeypatch.setattr(tracker, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(tracker, "SPACING_S", 0.0)


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not so():  # noqa: ASYNC110 - the fake's state has no event of its own
            await asyncio.sleep(0.002)


async def watched(scene: Scene, ref: SecretRef = REF) -> None:
    """The watch is open, and what is read at its opening has been read."""

    def so() -> bool:
        facts = scene.source.facts(ref)
        return facts is not None and facts.how == "watch" and scene.fake.gets >= 2

    await until(so)


async def test_a_change_is_told_with_the_time_of_its_notice_and_the_values_in_clear() -> None:
    async with reading() as scene, watching(scene) as heard:
        assert heard.versions[0].changed_ns == 0
        await watched(scene)
        await scene.fake.put(password=b"two", user=b"\x00\xff")
        version = await heard.value("password", b"two")
        assert version.values == {"password": b"two", "user": b"\x00\xff"}
        assert version.changed_ns > 0
        assert version.label == f"version {scene.fake.version}"
        facts = scene.source.facts(REF)
        assert facts is not None
        assert (facts.label, facts.how, facts.problem) == (version.label, "watch", "")
        assert facts.read_ns > 0
        assert not scene.source.holds_old(REF)


async def test_a_watch_asks_for_metadata_alone_and_shows_the_pods_token_never_the_agents() -> None:
    async with reading() as scene, watching(scene):
        await watched(scene)
        assert scene.fake.forms == ["application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"]
        assert set(scene.fake.tokens) == {"token-1"}


async def test_where_the_agent_reads_it_shows_its_own_token() -> None:
    fake = FakeSecrets(token="the-agents-own")
    await fake.put(password=b"one")
    async with reading(fake, token="") as scene, watching(scene, BY_AGENT) as heard:
        assert heard.versions[0].values == {"password": b"one"}
        assert set(fake.tokens) == {"the-agents-own"}


async def test_a_new_version_with_the_same_values_is_no_news() -> None:
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        label = heard.versions[-1].label
        before = scene.fake.gets
        await scene.fake.annotate()
        await until(lambda: scene.fake.gets > before)
        version = await heard.next_version(lambda: asyncio.ensure_future(scene.fake.put(password=b"two")))
        assert (version.values["password"], heard.log.count("changed")) == (b"two", 2)
        assert version.label != label


async def test_notices_of_what_was_read_already_cost_no_read() -> None:
    async with reading() as scene, watching(scene):
        await watched(scene)
        before = scene.fake.gets
        scene.fake._lines.append(scene.fake._line("MODIFIED"))  # of the version that there is
        async with scene.fake._news:
            scene.fake._news.notify_all()
        await asyncio.sleep(0.05)
        assert scene.fake.gets == before


async def test_a_deleted_secret_goes_on_being_served_is_told_and_is_taken_up_again_when_it_is_back() -> None:
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        await scene.fake.remove()
        assert "there is no Secret db in the namespace payments" in await heard.failure("there is no")
        assert len(heard.versions) == 1
        facts = scene.source.facts(REF)
        assert facts is not None
        assert "there is no Secret" in facts.problem
        await scene.fake.put(password=b"again")
        await heard.value("password", b"again")
        assert scene.source.facts(REF).problem == ""  # type: ignore[union-attr]


async def test_a_secret_that_comes_later_is_told_as_soon_as_it_is_there() -> None:
    async with reading(FakeSecrets()) as scene, watching(scene) as heard:
        assert heard.log == ["failed"]
        await scene.fake.put(password=b"one")
        await heard.value("password", b"one")


async def test_a_trouble_is_told_once_however_often_it_is_met() -> None:
    async with reading(FakeSecrets()) as scene, watching(scene) as heard:
        before = scene.fake.gets
        await until(lambda: scene.fake.gets > before + 3)
        assert heard.log == ["failed"]


async def test_a_right_that_is_taken_away_holds_back_the_next_version_and_is_told() -> None:
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        scene.fake.may = {"watch"}  # a watch that is open goes on telling
        await scene.fake.put(password=b"two")
        told = await heard.failure("may not get")
        assert "service account payments/api may not get the Secret db in the namespace payments" in told
        assert "kubectl -n payments create role read-db" in told
        with pytest.raises(Refused) as caught:
            await scene.source.fetch(REF)
        assert caught.value.code is Code.PERMISSION_DENIED
        assert len(heard.versions) == 1
        scene.fake.may = {"get", "watch"}
        await heard.value("password", b"two")


async def test_without_the_right_to_watch_it_is_read_at_its_pace_and_that_is_said_once() -> None:
    async with reading() as scene:
        scene.fake.may = {"get"}
        async with watching(scene) as heard:
            await scene.fake.put(password=b"two")
            await heard.value("password", b"two")
            facts = scene.source.facts(REF)
            assert facts is not None
            assert facts.how == "read every 0.1s (no right to watch)"
            before = scene.fake.gets
            await until(lambda: scene.fake.gets > before + 2)
            assert heard.failures == []
    assert len(scene.hints) == 1
    assert "may not watch the Secret db" in scene.hints[0]
    assert "--verb=get,watch" in scene.hints[0]


async def test_a_right_to_watch_that_comes_later_is_used() -> None:
    async with reading() as scene:
        scene.fake.may = {"get"}
        async with watching(scene):
            await until(lambda: bool(scene.hints))
            scene.fake.may = {"get", "watch"}
            assert scene.source.nudge("payments/db") == 1  # else in a minute
            await until(lambda: scene.fake.watches == 1)
            assert scene.source.facts(REF).how == "watch"  # type: ignore[union-attr]


async def test_a_nudge_looks_at_once_by_either_name_and_at_nothing_else() -> None:
    async with reading() as scene:
        scene.fake.may, scene.pace = {"get"}, 60.0
        async with watching(scene) as heard:
            await until(lambda: bool(scene.hints))
            await scene.fake.put(password=b"two")
            assert scene.source.nudge("other") == 0
            assert scene.source.nudge("db") == 1
            await heard.value("password", b"two")


async def test_what_changed_while_the_watch_was_broken_is_told() -> None:
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        scene.fake.on_watch.extend([Fault.CUT, Fault.BROKEN, Fault.BUSY, Fault.GONE, Fault.UNREADABLE])
        await scene.fake.cut_watches()
        await scene.fake.put(password=b"two")
        await heard.value("password", b"two")
        await until(lambda: scene.fake.watches == 1)
        await scene.fake.put(password=b"three")
        await heard.value("password", b"three")


@pytest.mark.parametrize(
    ("fault", "words", "kind"),
    [
        (Fault.BROKEN, "answered 500", "unavailable"),
        (Fault.BUSY, "answered 429", "throttled"),
        (Fault.CUT, "Unreachable", "unavailable"),
        (Fault.HALF, "Unreachable", "unavailable"),
        (Fault.NOT_JSON, "not a Secret", "bad-answer"),
        (Fault.ANOTHER_KIND, "not a Secret", "bad-answer"),
        (Fault.NOT_BASE64, "not a Secret", "bad-answer"),
        (Fault.HUGE, "AnswerTooLarge", "bad-answer"),
        (Fault.SILENCE, "Timeout", "timeout"),
    ],
)
async def test_each_fault_keeps_what_was_good_is_told_and_passes(
    fault: Fault, words: str, kind: str, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    if fault is Fault.SILENCE:  # the others must not be taken for it on a busy machine
        monkeypatch.setattr("agent.sources.kubernetes.reading.GET_S", 0.2)
    fake = FakeSecrets(extra="canary-5f1e")
    await fake.put(password=b"one")
    async with reading(fake) as scene, watching(scene) as heard:
        await watched(scene)
        fake.on_get.extend([fault] * 2)  # a kept connection that ended is tried anew once
        await fake.put(password=b"two")
        assert "canary-5f1e" not in await heard.failure(words)
        await heard.value("password", b"two")
        assert [version.values["password"] for version in heard.versions] == [b"one", b"two"]
        assert set(scene.failures) == {kind}
    assert "canary-5f1e" not in log_lines.text
    assert "token-1" not in log_lines.text


async def test_a_key_that_becomes_empty_holds_the_whole_version_back() -> None:
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        await scene.fake.put(password=b"", user=b"new")
        assert "the key password became empty" in await heard.failure("became empty")
        with pytest.raises(Refused, match="became empty"):
            await scene.source.fetch(REF)
        await scene.fake.put(password=b"two", user=b"new")
        await heard.value("password", b"two")
        assert all(version.values["password"] for version in heard.versions)


async def test_an_ended_token_is_told_and_the_next_one_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "OWN_TROUBLE_S", (60.0, 60.0))
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        scene.fake.token = "token-2"  # the API server does not take the old one any more
        await scene.fake.put(password=b"two")
        assert "does not accept the token of the service account payments/api" in await heard.failure("401")
        scene.give_token("token-2")
        await heard.value("password", b"two")


async def test_without_a_token_nothing_is_asked_until_kubelet_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "OWN_TROUBLE_S", (60.0, 60.0))
    async with reading(token="") as scene, watching(scene) as heard:
        assert "no live token of a pod of payments/api is at hand" in heard.failures[0]
        assert set(scene.failures) == {"no-credential"}
        assert scene.fake.tokens == []
        scene.give_token("token-1")
        await heard.value("password", b"one")
        await until(lambda: scene.fake.watches == 1)


async def test_when_the_accounts_last_pod_is_gone_its_token_is_used_no_more() -> None:
    async with reading() as scene:
        await scene.source.fetch(REF)
        scene.credentials.drop(POD)
        with pytest.raises(Refused, match="no live token"):
            await scene.source.fetch(REF)
        assert scene.fake.gets == 1


async def test_a_fetch_reads_anew_and_fetches_at_once_share_a_read() -> None:
    async with reading() as scene, watching(scene):
        await watched(scene)
        allowed = scene.fake.get_allowed = asyncio.Event()
        before = scene.fake.gets
        first = asyncio.ensure_future(scene.source.fetch(REF))
        await until(lambda: scene.fake.gets == before + 1)
        scene.fake.values = {"password": b"two"}
        others = [asyncio.ensure_future(scene.source.fetch(REF)) for _ in range(5)]
        await asyncio.sleep(0)
        allowed.set()
        await asyncio.gather(first, *others)
        assert {bytes(one.result().values["password"]) for one in others} == {b"two"}
        assert scene.fake.gets == before + 2


async def test_a_fetch_goes_on_when_the_watch_beside_it_ends() -> None:
    async with reading() as scene:
        allowed = scene.fake.get_allowed = asyncio.Event()

        class Deaf:
            def changed(self, version: object) -> None:
                raise AssertionError("does not watch any more")

            def failed(self, ref: SecretRef, problem: str) -> None:
                raise AssertionError("does not watch any more")

        stop = scene.source.watch(REF, Deaf())
        fetching = asyncio.ensure_future(scene.source.fetch(REF))
        await until(lambda: scene.fake.gets >= 1)
        stop()
        stop()
        allowed.set()
        assert (await fetching).values == {"password": b"one"}


async def test_more_watches_than_there_may_be_are_read_at_their_pace() -> None:
    async with reading(most_watches=0) as scene, watching(scene) as heard:
        assert scene.source.facts(REF).how == "read every 0.1s (too many watches at this node)"  # type: ignore[union-attr]
        await scene.fake.put(password=b"two")
        await heard.value("password", b"two")
        assert scene.fake.forms == []


async def test_when_nobody_watches_any_more_every_connection_ends_and_facts_are_none() -> None:
    async with reading() as scene:
        async with watching(scene):
            await watched(scene)
            assert len(scene.source._clients) == 1
        await until(lambda: scene.fake.watches == 0)
        await until(lambda: len(scene.source._clients) == 0)
        assert scene.source.facts(REF) is None


async def test_two_observers_hear_the_same_and_one_that_fails_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def changed(self, version: object) -> None:
            raise ValueError("of the observer")

        def failed(self, ref: SecretRef, problem: str) -> None: ...

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    async with reading() as scene:
        stop = scene.source.watch(REF, Broken())
        async with watching(scene) as heard:
            await watched(scene)
            await scene.fake.put(password=b"two")
            await heard.value("password", b"two")
        stop()
    assert told
    assert all(isinstance(error, ValueError) for error in told)


async def test_a_watch_that_is_silent_is_not_relied_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        monkeypatch.setattr(tracker, "WATCHED_S", 0.02)
        scene.source.nudge("db")
        scene.fake.values = {"password": b"two"}  # of which nobody tells
        await heard.value("password", b"two")


async def test_a_secret_that_is_written_all_the_time_ends_with_its_last_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "SPACING_S", 0.05)
    async with reading() as scene, watching(scene) as heard:
        await watched(scene)
        before = scene.fake.gets
        for number in range(500):
            await scene.fake.put(password=b"%d" % number)
        await heard.value("password", b"499")
        assert scene.fake.gets - before < 50
