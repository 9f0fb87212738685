"""Who has read which version: the join of what the kernel noted with the sources' names of versions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.model import FilePlan, FileRead, SecretRef, VolumePlan
from agent.secrets.readers import MOST_LABELS, ReadBook, Standing, oldest_in_use, standing
from tests.unit.delivery.plans import plan

DB = SecretRef("file", "db")
FILE = FilePlan("password", DB, "password", 0o400)
NEVER_READ = FileRead(current=3, since=3, read=0, oldest=3)


def book(*reads: FileRead, labels: int = 9) -> ReadBook:
    """A book of one file in each of so many volumes, that knows the labels of the first generations."""
    shown = [(plan(f"csi-{number}"), FILE, read) for number, read in enumerate(reads)]
    made = ReadBook(lambda ref: shown if ref == DB else [])
    for generation in range(1, labels + 1):
        made.learn(DB, generation, f"version {generation}")
    return made


def test_a_reader_of_the_current_version_is_current_and_an_earlier_one_is_behind() -> None:
    made = book(replace(NEVER_READ, read=3), replace(NEVER_READ, read=2))
    assert [(reader.label, reader.standing) for reader in made.readers(DB)] == [
        ("version 3", Standing.CURRENT),
        ("version 2", Standing.BEHIND),
    ]
    assert [reader.volume_id for reader in made.behind(DB)] == ["csi-1"]
    assert made.everyone_has(DB) == "version 2"


def test_a_file_that_nobody_ever_read_holds_nothing_back() -> None:
    made = book(replace(NEVER_READ, read=3), NEVER_READ)
    assert [reader.standing for reader in made.readers(DB)] == [Standing.CURRENT, Standing.UNREAD]
    assert made.readers(DB)[1].label == ""
    assert made.behind(DB) == []
    assert made.everyone_has(DB) == "version 3"


def test_an_earlier_version_with_the_same_bytes_is_as_good_as_the_current_one() -> None:
    made = book(FileRead(current=5, since=2, read=2, oldest=5), FileRead(current=5, since=2, read=1, oldest=5))
    assert [(reader.label, reader.standing) for reader in made.readers(DB)] == [
        ("version 5", Standing.CURRENT),
        ("version 1", Standing.BEHIND),
    ]


def test_while_an_old_version_can_still_be_read_nobody_is_said_to_have_passed_it() -> None:
    made = book(FileRead(current=5, since=5, read=5, oldest=4))
    assert made.behind(DB) == []
    assert made.everyone_has(DB) == "version 4"
    assert book(FileRead(current=5, since=5, read=0, oldest=4)).readers(DB)[0].standing is Standing.UNREAD


def test_a_volume_whose_reads_nobody_sees_holds_back() -> None:
    made = book(replace(NEVER_READ, read=3), FileRead())
    assert [reader.standing for reader in made.behind(DB)] == [Standing.UNKNOWN]
    assert made.everyone_has(DB) is None


def test_a_volume_that_keeps_an_old_value_holds_back_also_where_nobody_has_read_it_yet() -> None:
    kept = FileRead(current=5, since=5, read=0, oldest=3, follows=False)
    made = book(replace(kept, follows=True, oldest=5), kept)
    assert [reader.volume_id for reader in made.behind(DB)] == ["csi-1"]
    assert made.everyone_has(DB) == "version 3"
    assert standing(replace(kept, since=3)) is Standing.UNREAD, "what it shows is the current value"


def test_a_closed_volume_holds_back_only_what_was_read_of_it() -> None:
    assert book(FileRead(current=5, since=5, read=0, oldest=5)).everyone_has(DB) == "version 5"
    assert book(FileRead(current=5, since=5, read=4, oldest=5)).everyone_has(DB) == "version 4"


def test_an_agent_that_was_restarted_knows_the_label_of_what_is_current_only() -> None:
    made = book(replace(NEVER_READ, read=2), replace(NEVER_READ, read=3), labels=0)
    made.learn(DB, 3, "version 3")
    assert [reader.label for reader in made.readers(DB)] == ["", "version 3"]
    assert made.everyone_has(DB) is None
    current = book(replace(NEVER_READ, read=3), labels=0)
    assert current.everyone_has(DB) is None
    current.learn(DB, 3, "version 3")
    assert current.everyone_has(DB) == "version 3"


def test_a_version_that_changed_nothing_gives_its_generation_another_name() -> None:
    made = book(replace(NEVER_READ, read=3), labels=3)
    made.learn(DB, 3, "version 8")
    assert (made.readers(DB)[0].label, made.everyone_has(DB)) == ("version 8", "version 8")


def test_a_label_that_comes_back_is_never_taken_for_the_later_version() -> None:
    made = book(FileRead(current=3, since=3, read=1, oldest=3), labels=0)
    for generation, label in enumerate(("content a", "content b", "content a"), 1):
        made.learn(DB, generation, label)
    assert made.everyone_has(DB) is None


def test_labels_are_remembered_of_so_many_generations_only() -> None:
    made = book(FileRead(current=1000, since=1000, read=2, oldest=1000), labels=1000)
    assert (made.label(DB, 1000), made.label(DB, 1001 - MOST_LABELS), made.label(DB, 1000 - MOST_LABELS)) == (
        "version 1000",
        f"version {1001 - MOST_LABELS}",
        "",
    )
    assert made.everyone_has(DB) is None


def test_a_secret_that_nobody_shows_has_no_readers_and_is_forgotten() -> None:
    made = book()
    assert (made.readers(DB), made.everyone_has(DB)) == ([], None)
    made.forget(DB)
    made.forget(DB)
    assert made.label(DB, 1) == ""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_is_behind_is_waited_for_as_long_as_patience_lasts_and_no_longer() -> None:
    clock, stuck = Clock(), FileRead(current=3, since=3, read=1, oldest=3)
    made = ReadBook(lambda _: [(plan(), FILE, stuck)], clock=clock)
    for generation in (1, 2, 3):
        made.learn(DB, generation, f"version {generation}")
        clock.now += 10
    seen = []
    for _ in range(4):
        seen.append(made.everyone_has(DB, patience_s=25))
        made.learn(DB, 3, "version 3")  # told again, it is not newer
        clock.now += 10
    assert seen == ["version 1", "version 2", "version 3", "version 3"]
    assert made.everyone_has(DB) == "version 1"
    assert made.behind(DB) != []


def test_where_no_engine_counts_versions_patience_alone_tells() -> None:
    clock = Clock()
    made = ReadBook(lambda _: [(plan(), FILE, FileRead())], clock=clock)
    for label in ("lease a", "lease a", "lease b"):
        made.learn(DB, 0, label)
        clock.now += 10
    assert made.everyone_has(DB) is None
    assert made.everyone_has(DB, patience_s=15) == "lease a"
    assert made.everyone_has(DB, patience_s=10) == "lease b"


def test_an_engine_that_counts_anew_makes_earlier_labels_nobodys() -> None:
    made = book(NEVER_READ, labels=9)
    made.learn(DB, 1, "version 10")
    assert [made.label(DB, generation) for generation in (1, 2, 9)] == ["version 10", "", ""]


GENERATIONS = st.integers(1, 12)
READS = st.builds(
    lambda current, since, read, oldest, follows: FileRead(
        current, min(since, current), min(read, current), min(oldest, current), follows
    ),
    GENERATIONS,
    GENERATIONS,
    st.integers(0, 12),
    GENERATIONS,
    st.booleans(),
)


@given(st.lists(READS | st.just(FileRead()), min_size=1), st.integers(0, 12))
def test_nobody_is_left_behind_the_version_that_everyone_is_said_to_have(reads: list[FileRead], labels: int) -> None:
    made = book(*reads, labels=labels)
    label = made.everyone_has(DB)
    if label is None:
        assert not labels or min(map(oldest_in_use, reads)) == 0
        return
    passed = int(label.removeprefix("version "))
    for read in reads:
        assert read.current
        assert not read.read or read.read >= passed or read.read >= read.since
        assert read.oldest >= passed or read.oldest >= read.since


@given(READS)
def test_who_holds_nothing_back_is_not_behind(read: FileRead) -> None:
    made = book(read, labels=12)
    if made.everyone_has(DB) == f"version {read.current}":
        assert made.behind(DB) == []
    if made.behind(DB):
        assert made.everyone_has(DB) != f"version {read.current}"


class Story(RuleBasedStateMachine):
    """A secret that rotates, changed or not, read through three files; its truth is what each holds."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.oldest = [0], 1
        self.read = [0, 0, 0]
        self.book = ReadBook(self.shown)
        self.book.learn(DB, 1, "1")

    def shown(self, ref: SecretRef) -> list[tuple[VolumePlan, FilePlan, FileRead]]:
        current = len(self.values)
        since = current
        while since > 1 and self.values[since - 2] == self.values[-1]:
            since -= 1
        return [
            (plan(f"csi-{number}"), FILE, FileRead(current, since, read, self.oldest))
            for number, read in enumerate(self.read)
        ]

    @rule(value=st.integers(0, 2))
    def rotate(self, value: int) -> None:
        self.values.append(value)
        self.book.learn(DB, len(self.values), str(len(self.values)))

    @rule(file=st.integers(0, 2), back=st.integers(0, 2))
    def read_it(self, file: int, back: int) -> None:
        """A read that began before the last flips may end after them."""
        self.read[file] = max(self.oldest, len(self.values) - back)

    @precondition(lambda self: self.oldest < len(self.values))
    @rule()
    def retire(self) -> None:
        self.oldest += 1

    @rule()
    def restart(self) -> None:
        self.book = ReadBook(self.shown)
        self.book.learn(DB, len(self.values), str(len(self.values)))
        self.oldest = len(self.values)

    @invariant()
    def what_is_passed_is_held_by_nobody(self) -> None:
        label = self.book.everyone_has(DB)
        if label is None:
            return
        for held in [read for read in self.read if read] + [self.oldest]:
            between = set(self.values[min(held, int(label)) - 1 : int(label)])
            assert held >= int(label) or len(between) == 1, "only where the bytes are the same"

    @invariant()
    def who_has_read_the_current_version_is_never_behind(self) -> None:
        behind = {reader.volume_id for reader in self.book.behind(DB)}
        assert behind.isdisjoint(f"csi-{i}" for i, read in enumerate(self.read) if read in (0, len(self.values)))


TestStory = Story.TestCase
