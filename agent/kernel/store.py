"""The maps behind the arrays: values in chunks, versions, files, pods. Who owns what is decided elsewhere."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from ctypes import Array, memmove, memset, sizeof
from dataclasses import dataclass

from agent.kernel import calls, tables
from agent.kernel.layout import (
    LAYOUT_VERSION,
    UNKNOWN_MAIN,
    About,
    BinaryKey,
    Chunk,
    ChunkKey,
    Container,
    File,
    FileKey,
    Limit,
    Pod,
    Sessions,
    Step,
    Task,
    Version,
    VersionKey,
)
from agent.kernel.programs import Programs

IDS_AT_ONCE = 1024
NODE_KEY_BYTES = 32
CHUNKS = 131072
"""max_entries of the map `chunks`: 190 MiB of values, were it ever full."""


def steps_of(size: int) -> int:
    """Steps that a read of a value of `size` bytes takes (see KS_LEAD_STEPS and KS_STEP_CHUNKS)."""
    chunks = max(1, -(-size // Limit.CHUNK_BYTES))
    return min(chunks, Limit.LEAD_STEPS) + -(-max(0, chunks - Limit.LEAD_STEPS) // Limit.STEP_CHUNKS)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One generation of one item: which value, how long, and the digest that tells whether a new value differs."""

    set_id: int
    generation: int
    item: int
    value_id: int
    size: int
    digest: bytes
    since: int = 0
    """The generation that brought this value: later ones may have it unchanged."""


class Maps:
    """The node's maps, through the descriptors of `Programs`."""

    def __init__(self, programs: Programs) -> None:
        self._fd = programs.maps
        self.grants = tables.grant_table(self._fd["grants"])
        self.sets = tables.set_table(self._fd["sets"])
        self.counters = tables.counter_table(self._fd["counters"])
        self.events_fd = self._fd["events"]
        self.chunks_used = 0
        self.most_chunks = CHUNKS
        about = calls.lookup(self._fd["about"], calls.Key32(0), About) or About()
        if about.layout_version == 0:
            about.layout_version = LAYOUT_VERSION
            about.next_id = 1
            key = secrets.token_bytes(NODE_KEY_BYTES)
            memmove(about.node_key, key, NODE_KEY_BYTES)
        self.node_key = bytes(about.node_key)
        self._about = about
        self._next_id = self._last_id = about.next_id
        self._fence_map = calls.create_map("array", "ks_fence", 4, 1)

    def close(self) -> None:
        """Close what this object opened."""
        os.close(self._fence_map)

    def new_id(self) -> int:
        """A number that this node's maps never see again, whatever happens to the agent."""
        if self._next_id == self._last_id:
            self._last_id = self._next_id + IDS_AT_ONCE
            self._about.next_id = self._last_id
            calls.update(self._fd["about"], calls.Key32(0), self._about)
        self._next_id += 1
        return self._next_id - 1

    def fence(self) -> None:
        """Return when every program that was running at the call has ended. Takes a grace period: call it off the loop.

        The kernel promises this of every update to a map of maps (`maybe_wait_bpf_programs`).
        """
        calls.update(self._fd["fence"], calls.Key32(0), calls.Key32(self._fence_map))

    # Values

    def write_value(self, value: bytes) -> int:
        """Store a value of 0 B to 1 MiB; its id. Nothing of it is left where the kernel refuses."""
        value_id = self.new_id()
        count = -(-len(value) // Limit.CHUNK_BYTES)
        if not count:
            return value_id
        keys = self._chunk_keys(value_id, len(value))
        chunks = (Chunk * count)()
        for index in range(count):
            part = value[index * Limit.CHUNK_BYTES : (index + 1) * Limit.CHUNK_BYTES]
            chunks[index].bytes = len(part)
            memmove(chunks[index].data, part, len(part))
        try:
            calls.update_batch(self._fd["chunks"], keys, chunks)
        except calls.KernelError:
            for key in keys:
                calls.delete(self._fd["chunks"], key)
            raise
        finally:
            memset(chunks, 0, sizeof(chunks))
        self.chunks_used += count
        return value_id

    def wipe_value(self, value_id: int, size: int) -> None:
        """Overwrite a value with zeros where it is, then free it. Only after a fence since its last version's end."""
        keys = self._chunk_keys(value_id, size)
        if not len(keys):
            return
        calls.update_batch(self._fd["chunks"], keys, (Chunk * len(keys))(), calls.IN_PLACE)
        calls.delete_batch(self._fd["chunks"], keys)
        self.chunks_used -= len(keys)

    def _chunk_keys(self, value_id: int, size: int) -> Array[ChunkKey]:
        count = -(-size // Limit.CHUNK_BYTES)
        return (ChunkKey * count)(*(ChunkKey(value_id, index) for index in range(count)))

    def chunk_owners(self) -> dict[int, int]:
        """Value ids that have chunks, with how many: for finding what a crash left behind."""
        owners: dict[int, int] = {}
        for key in calls.keys(self._fd["chunks"], ChunkKey):
            owners[key.value_id] = owners.get(key.value_id, 0) + 1
        self.chunks_used = sum(owners.values())
        return owners

    # Versions

    def add_versions(self, added: list[StoredVersion]) -> None:
        """Store versions; they are seen when their set's `current` says so."""
        if not added:
            return
        keys = (VersionKey * len(added))(*(VersionKey(v.set_id, v.generation, v.item) for v in added))
        values = (Version * len(added))()
        for entry, version in zip(values, added, strict=True):
            entry.value_id, entry.bytes, entry.since = version.value_id, version.size, version.since
            memmove(entry.digest, version.digest, Limit.DIGEST_BYTES)
        calls.update_batch(self._fd["versions"], keys, values)

    def drop_version(self, set_id: int, generation: int, item: int) -> None:
        """Forget a version. Only after a fence that followed the raise of its set's `oldest`, or the set's end."""
        calls.delete(self._fd["versions"], VersionKey(set_id, generation, item))

    def versions(self) -> Iterator[StoredVersion]:
        """Every version that is stored."""
        for key in list(calls.keys(self._fd["versions"], VersionKey)):
            entry = calls.lookup(self._fd["versions"], key, Version)
            if entry is not None:
                yield StoredVersion(
                    key.set_id,
                    key.generation,
                    key.item,
                    entry.value_id,
                    entry.bytes,
                    bytes(entry.digest),
                    entry.since,
                )

    # Files, binaries, pods

    def put_file(self, files_id: int, inode: int, set_id: int, set_slot: int, item: int, read: int = 0) -> None:
        """Bind a pinned file to an item of a set, for the grant that has this `files_id`. `read` is the generation last
        read through it, where an earlier record of the file knows one."""
        file = File(set_id=set_id, set_slot=set_slot, item=item, seen=read, read=read)
        calls.update(self._fd["files"], FileKey(files_id, inode), file, calls.ONLY_NEW)

    def file(self, files_id: int, inode: int) -> File | None:
        """The record of a pinned file."""
        return calls.lookup(self._fd["files"], FileKey(files_id, inode), File)

    def read_generations(self, files_id: int, inodes: Iterable[int]) -> dict[int, int]:
        """Of these files of a grant, by inode: the generation whose value was handed out last as a whole; 0 where none
        ever was. A refused read counts as none, and one that stopped half-way does not either."""
        found = {inode: self.file(files_id, inode) for inode in inodes}
        return {inode: file.read if file else 0 for inode, file in found.items()}

    def drop_file(self, files_id: int, inode: int) -> None:
        """Forget a file. Only after a fence that followed the grant's end, or its move to another `files_id`."""
        calls.delete(self._fd["files"], FileKey(files_id, inode))

    def files(self) -> list[FileKey]:
        """The keys of all files."""
        return list(calls.keys(self._fd["files"], FileKey))

    def put_binary(self, grant_id: int, inode: int, device: int) -> None:
        """Let an executable read through a grant."""
        calls.update(self._fd["binaries"], BinaryKey(grant_id, inode, device), calls.Key32(1))

    def binaries(self) -> list[BinaryKey]:
        """The keys of all executables that are named."""
        return list(calls.keys(self._fd["binaries"], BinaryKey))

    def drop_binary(self, key: BinaryKey) -> None:
        """Forget an executable. Only after a fence that followed the grant's end."""
        calls.delete(self._fd["binaries"], key)

    def put_pod(self, cgroup_id: int, pod_id: int, flags: int) -> None:
        """Follow the lineage of what starts below this cgroup."""
        calls.update(self._fd["pods"], calls.Key64(cgroup_id), Pod(pod_id, flags))

    def pods(self) -> dict[int, Pod]:
        """Pods by cgroup id."""
        found = {}
        for key in list(calls.keys(self._fd["pods"], calls.Key64)):
            pod = calls.lookup(self._fd["pods"], key, Pod)
            if pod is not None:
                found[key.value] = pod
        return found

    def drop_pod(self, cgroup_id: int) -> None:
        """Stop following a pod."""
        calls.delete(self._fd["pods"], calls.Key64(cgroup_id))

    def containers(self) -> dict[int, Container]:
        """Containers by cgroup id."""
        found = {}
        for key in list(calls.keys(self._fd["containers"], calls.Key64)):
            container = calls.lookup(self._fd["containers"], key, Container)
            if container is not None:
                found[key.value] = container
        return found

    def close_container(self, cgroup_id: int, pod_id: int) -> None:
        """Let nobody who enters this cgroup be its pod's, where the kernel does not know its first task."""
        fd, key = self._fd["containers"], calls.Key64(cgroup_id)
        known = calls.lookup(fd, key, Container)
        if known is not None and known.pod_id == pod_id:
            return
        flags = calls.NO_FLAGS if known is not None else calls.ONLY_NEW
        try:
            calls.update(fd, key, Container(pod_id=pod_id, main_tgid=UNKNOWN_MAIN), flags)
        except calls.KernelError as error:
            if error.errno != errno.EEXIST:  # its first task came this very moment
                raise

    def drop_container(self, cgroup_id: int) -> None:
        """Forget a container of a pod that has ended."""
        calls.delete(self._fd["containers"], calls.Key64(cgroup_id))

    def mark_task(self, pidfd: int, pod_id: int, flags: int) -> None:
        """Make a task the root of a lineage: for pods without a cgroup."""
        calls.update(self._fd["tasks"], calls.Key32(pidfd), Task(pod_id=pod_id, flags=flags))

    # Volumes

    def new_steps(self, grant_id: int, grant_slot: int, count: int) -> int:
        """The map that a volume's link walks, of `count` steps; the descriptor is the caller's to close."""
        fd = calls.create_map("hash", "ks_steps", sizeof(Step), Limit.STEPS)
        self.add_steps(fd, grant_id, grant_slot, count)
        return fd

    def add_steps(self, fd: int, grant_id: int, grant_slot: int, count: int) -> None:
        """Let the volume's values take up to `count` steps; reads under way are not disturbed."""
        for index in range(count):
            try:
                calls.update(fd, calls.Key32(index), Step(grant_id, grant_slot), calls.ONLY_NEW)
            except calls.KernelError as error:
                if error.errno != errno.EEXIST:
                    raise

    def end_steps(self, fd: int) -> None:
        """From now on every read through the volume's link is refused, also through a mount that leaked."""
        for key in list(calls.keys(fd, calls.Key32)):
            calls.update(fd, key, Step(0, 0))

    def clear_sessions(self, grant_slot: int) -> None:
        """Forget unfinished reads of the slot's earlier grant."""
        calls.update(self._fd["sessions"], calls.Key32(grant_slot), Sessions())
