"""Secrets as the kernel serves them: each value stored once, each secret flipped once, however many volumes show it.

A secret of a source becomes a *set*; its keys become the set's *items*; each version of it becomes a *generation* that
names one value for every item. One store to `current` flips all items for all volumes. Generations that were current
stay for a while, so that a read under way ends with what it began; then they are retired and their values wiped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.delivery.graveyard import Graveyard
from agent.delivery.values import Value, Values
from agent.kernel.layout import Limit
from agent.kernel.store import Maps, StoredVersion
from agent.model import SecretRef, SecretVersion
from kernelsecret.errors import Code, Refused

RETAIN_S = 2.0
"""How long a generation outlives its flip: well above the programs' round grace (0.5 s)."""
MOST_RETAINED = 64
"""Generations kept of one secret, however fast it rotates."""

Sets = list[tuple[SecretRef, int, int, dict[str, int]]]
"""What a volume shows, as its state file has it: (ref, set id, slot, items)."""


@dataclass(slots=True)
class Shared:
    """A secret as a set: `items` maps its keys to item numbers, `holders` volumes to the keys that they show."""

    ref: SecretRef
    set_id: int
    slot: int
    items: dict[str, int] = field(default_factory=dict)
    generation: int = 1
    oldest: int = 1
    values: dict[int, dict[int, Value]] = field(default_factory=dict)
    """generation -> item -> value, for every generation that is retained."""
    since: dict[int, int] = field(default_factory=dict)
    """item -> the generation that brought its current value."""
    holders: dict[str, set[str]] = field(default_factory=dict)

    def size(self, key: str) -> int:
        """Bytes of a key's current value."""
        return self.values[self.generation][self.items[key]].size


def needs_session(size: int) -> bool:
    """As in bpf/reads.h: reading such a value takes more than a step, or cannot be told from one that does."""
    return size > Limit.CHUNK_BYTES or size % Limit.CHUNK_BYTES == 0


class SharedSecrets:
    """All secrets of the node. Every method is synchronous: nobody sees a half-made change."""

    def __init__(self, maps: Maps, graveyard: Graveyard) -> None:
        self._maps = maps
        self._graveyard = graveyard
        self._secrets: dict[SecretRef, Shared] = {}
        self._kept: dict[str, dict[SecretRef, Shared]] = {}
        self._away: set[str] = set()
        self._values = Values(maps)

    def get(self, ref: SecretRef) -> Shared | None:
        """The secret, where some volume shows it."""
        return self._secrets.get(ref)

    def flipped_ns(self, ref: SecretRef) -> int:
        """CLOCK_REALTIME nanoseconds of the secret's last flip, also one of an earlier agent; 0 before the first."""
        return self._maps.sets[self._secrets[ref].slot].flipped_ns

    def __getitem__(self, ref: SecretRef) -> Shared:
        return self._secrets[ref]

    def all(self) -> Iterable[Shared]:
        """Every secret that some volume shows."""
        return self._secrets.values()

    def acquire(self, holder: str, version: SecretVersion, keys: Iterable[str]) -> Shared:
        """Let a volume show these keys of a secret.

        `version` is stored where the secret is new. Where it is known, only keys that no volume showed before are
        taken from it: rotate first.
        """
        wanted = sorted(set(keys))
        shared = self._secrets.get(version.ref)
        if shared is None:
            shared = self._create(version, wanted)
        elif new := [key for key in wanted if key not in shared.items]:
            self._extend(shared, version, new)
        shared.holders[holder] = set(wanted)
        return shared

    def release(self, holder: str, ref: SecretRef) -> None:
        """The volume no longer shows the secret: keys that it was the last to show are wiped, and so is a secret that
        nobody shows. Call it after a fence that followed the end of the volume's grant. Idempotent."""
        self.let_go(holder)
        self._away.discard(holder)
        shared = self._secrets.get(ref)
        if shared is None or shared.holders.pop(holder, None) is None:
            return
        if not shared.holders:
            del self._secrets[ref]
            self._bury_set(shared)
            return
        # A source may drop a key that nobody shows any more, and its number may be another's.
        shown = set().union(*shared.holders.values())
        self._drop_items(shared, [shared.items.pop(key) for key in shared.items.keys() - shown])

    def rotate(self, version: SecretVersion) -> set[str]:
        """Make a new version current; the keys whose value changed. One flip, and nothing where nothing changed."""
        shared = self._secrets[version.ref]
        wanted = set().union(*(keys for holder, keys in shared.holders.items() if holder not in self._away))
        if missing := sorted(key for key in wanted if key not in version.values):
            raise Refused(
                Code.FAILED_PRECONDITION,
                str(version.ref),
                f"the new version has no key {missing[0]!r}",
                "put the key back, or take it out of the interceptor; the last good version goes on being served",
            )
        current = shared.values[shared.generation]
        changed = {
            key
            for key, item in shared.items.items()
            if key in version.values and current[item].digest != self._values.digest(version.values[key])
        }
        if not changed:
            return changed
        following = self._values.hold_all({shared.items[key]: version.values[key] for key in changed})
        since = {**shared.since, **dict.fromkeys(following, shared.generation + 1)}
        self._add_generation(shared, shared.generation + 1, {**current, **following}, since)
        shared.since = since
        self._flip(shared)
        return changed

    # Volumes that do not follow

    def set_away(self, holder: str, is_away: bool) -> None:
        """Whether nobody reads the secrets themselves through a volume: a key that no other shows may then be missing
        in a new version."""
        (self._away.add if is_away else self._away.discard)(holder)

    def kept(self, holder: str) -> Mapping[SecretRef, Shared]:
        """The volume's own copies."""
        return self._kept.get(holder, {})

    def keep(self, holder: str) -> Mapping[SecretRef, Shared]:
        """Copies of the volume's own of all that it shows now, which no rotation reaches: sets that name the same
        values, under the same generations, so that reads under way go on in them."""
        self.let_go(holder)
        made = self._kept.setdefault(holder, {})
        try:
            for shared in [one for one in self._secrets.values() if holder in one.holders]:
                made[shared.ref] = self._copy(shared, shared.holders[holder])
        except BaseException:
            self.let_go(holder)
            raise
        return made

    def let_go(self, holder: str) -> None:
        """Free the volume's own copies, after a grace period. Idempotent."""
        for copy in self._kept.pop(holder, {}).values():
            self._bury_set(copy)

    def _copy(self, shared: Shared, keys: Iterable[str]) -> Shared:
        items = {key: shared.items[key] for key in keys}
        copy = Shared(shared.ref, self._maps.new_id(), self._maps.sets.allocate(), items, shared.generation)
        copy.oldest = shared.oldest
        copy.since = {item: shared.since[item] for item in items.values()}
        try:
            for generation, values in shared.values.items():
                chosen = {i: values[i] for i in items.values() if i in values}
                self._add_generation(copy, generation, chosen, copy.since)
        except BaseException:
            self._bury_set(copy)
            raise
        entry, of = self._maps.sets[copy.slot], self._maps.sets[shared.slot]
        entry.current, entry.oldest, entry.long_items = copy.generation, copy.oldest, of.long_items
        entry.flipped_ns = of.flipped_ns
        entry.id = copy.set_id
        self._bury_before(copy, RETAIN_S, copy.generation)
        return copy

    # Making

    def _create(self, version: SecretVersion, keys: list[str]) -> Shared:
        shared = Shared(version.ref, self._maps.new_id(), self._maps.sets.allocate())
        try:
            shared.items = {key: item for item, key in enumerate(keys)}
            shared.since = dict.fromkeys(shared.items.values(), 1)
            held = self._values.hold_all({i: version.values[key] for key, i in shared.items.items()})
            self._add_generation(shared, 1, held, shared.since)
        except BaseException:
            self._maps.sets.free(shared.slot)
            raise
        entry = self._maps.sets[shared.slot]
        entry.current = entry.oldest = 1
        entry.id = shared.set_id
        self._secrets[version.ref] = shared
        return shared

    def _extend(self, shared: Shared, version: SecretVersion, keys: list[str]) -> None:
        used = set(shared.items.values())
        numbers = dict(zip(keys, (item for item in range(Limit.SET_ITEMS) if item not in used), strict=False))
        if len(numbers) < len(keys):
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                str(shared.ref),
                f"more than {Limit.SET_ITEMS} of its keys are used on this node",
            )
        added = self._values.hold_all({item: version.values[key] for key, item in numbers.items()})
        since = dict.fromkeys(added, min(shared.values))
        try:
            # A task in the middle of an older generation may read the new item too.
            for generation in shared.values:
                self._store(shared, generation, added, since)
        except BaseException:
            self._drop_items(shared, added)
            self._values.wipe_unused(added.values())
            raise
        shared.items |= numbers
        shared.since |= since

    def _drop_items(self, shared: Shared, items: Iterable[int]) -> None:
        """Forget items in every generation: no file that a program can reach shows them."""
        for item in items:
            for generation, values in shared.values.items():
                self._maps.drop_version(shared.set_id, generation, item)
                if (value := values.pop(item, None)) is not None:
                    self._values.release(value)

    def _add_generation(
        self, shared: Shared, generation: int, values: dict[int, Value], since: Mapping[int, int]
    ) -> None:
        shared.values[generation] = {}
        try:
            self._store(shared, generation, values, since)
        except BaseException:
            # Nobody was told of it, so no program can have seen it.
            del shared.values[generation]
            for item in values:
                self._maps.drop_version(shared.set_id, generation, item)
            self._values.wipe_unused(values.values())
            raise

    def _store(self, shared: Shared, generation: int, values: Mapping[int, Value], since: Mapping[int, int]) -> None:
        entry = self._maps.sets[shared.slot]
        for item, value in values.items():
            if needs_session(value.size):
                entry.long_items |= 1 << item
        self._maps.add_versions(
            [
                StoredVersion(shared.set_id, generation, item, value.value_id, value.size, value.digest, since[item])
                for item, value in values.items()
            ]
        )
        for value in values.values():
            value.references += 1
        shared.values[generation].update(values)

    def _flip(self, shared: Shared) -> None:
        entry = self._maps.sets[shared.slot]
        shared.generation += 1
        entry.flipped_ns = time.time_ns()
        entry.current = shared.generation
        entry.flips += 1
        over = len(shared.values) - MOST_RETAINED
        last, after = shared.generation - 1, RETAIN_S
        if over > 0:
            last, after = max(shared.oldest, shared.generation - MOST_RETAINED), 0.0
        self._bury_before(shared, after, last + 1)

    # Retiring, from the graveyard: cut first, free after a grace period

    def _bury_before(self, shared: Shared, after_s: float, oldest: int) -> None:
        cut = lambda: self._raise_oldest(shared, oldest)  # noqa: E731
        self._graveyard.bury(after_s, cut, lambda: self._retire(shared, oldest - 1))

    def _bury_set(self, shared: Shared) -> None:
        self._graveyard.bury(0, lambda: self._cut_set(shared), lambda: self._free_set(shared))

    def _raise_oldest(self, shared: Shared, oldest: int) -> None:
        entry = self._maps.sets[shared.slot]
        if entry.id == shared.set_id and oldest > shared.oldest:
            entry.oldest = shared.oldest = oldest

    def _retire(self, shared: Shared, last: int) -> None:
        for generation in [number for number in shared.values if number <= last]:
            self._drop(shared, generation)

    def _drop(self, shared: Shared, generation: int) -> None:
        for item, value in shared.values.pop(generation).items():
            self._maps.drop_version(shared.set_id, generation, item)
            self._values.release(value)

    def _cut_set(self, shared: Shared) -> None:
        self._maps.sets[shared.slot].id = 0

    def _free_set(self, shared: Shared) -> None:
        for generation in list(shared.values):
            self._drop(shared, generation)
        self._maps.sets.clear(shared.slot)
        self._maps.sets.free(shared.slot)

    # After a restart

    def adopt(self, holders: Mapping[str, Sets], kept: Mapping[str, Sets]) -> Callable[[], None]:
        """Take over the sets that volumes show, and their own copies. What the maps hold beyond that is cut at once;
        call what is returned after a fence to free it."""
        by_set: dict[int, Shared] = {}
        for holder, sets in holders.items():
            for ref, set_id, slot, items in sets:
                shared = by_set.setdefault(set_id, Shared(ref, set_id, slot))
                shared.items |= items
                shared.holders[holder] = set(items)
                self._secrets[ref] = shared
        for holder, sets in kept.items():
            for ref, set_id, slot, items in sets:
                copy = by_set[set_id] = Shared(ref, set_id, slot, dict(items))
                self._kept.setdefault(holder, {})[ref] = copy
        orphans = [v for v in self._maps.versions() if not self._adopt_version(by_set.get(v.set_id), v)]
        for shared in by_set.values():
            entry = self._maps.sets[shared.slot]
            shared.generation, shared.oldest = entry.current, entry.current
            entry.oldest = entry.current
        used = {shared.slot for shared in by_set.values()}
        unowned = [slot for slot in self._maps.sets.in_use() if slot not in used]
        for slot in unowned:
            self._maps.sets[slot].id = 0
        return lambda: self._sweep(by_set.values(), orphans, unowned)

    def _adopt_version(self, shared: Shared | None, version: StoredVersion) -> bool:
        if shared is None or self._maps.sets[shared.slot].current < version.generation:
            return False
        if version.item not in shared.items.values():
            return False
        shared.values.setdefault(version.generation, {})[version.item] = self._values.adopt(version)
        if version.generation == self._maps.sets[shared.slot].current:
            shared.since[version.item] = version.since
        return True

    def _sweep(self, adopted: Iterable[Shared], orphans: list[StoredVersion], unowned: list[int]) -> None:
        """Free versions that no volume shows, values that no version names, generations that are not current."""
        for version in orphans:
            self._maps.drop_version(version.set_id, version.generation, version.item)
        for shared in adopted:
            self._retire(shared, shared.oldest - 1)
        self._values.sweep()
        for slot in unowned:
            self._maps.sets.clear(slot)
            self._maps.sets.free(slot)
