"""What becomes of an `iter` volume whose pod has lost its right to it: closed, or left behind by rotations.

*Closed*: one store into the grant, which the programs look at before anything else. *Kept*: sets of the volume's own
that name the values of this moment; one store of the grant's `files_id` moves all of its files to them, so that every
read, also one under way and one through a descriptor that is open, finds either the old sets or the new ones. What a
move does not keep is that a task which is between two files of a secret, within half a second of a rotation, gets both
in one version.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from agent.delivery.graveyard import Graveyard
from agent.delivery.shared import Shared, SharedSecrets
from agent.delivery.state import KernelState, SetState, VolumeState
from agent.kernel.layout import Grant
from agent.kernel.store import Maps
from agent.model import OnUnavailable, SecretRef


class Withdrawal:
    """Takes volumes out of what is served, and back."""

    def __init__(self, maps: Maps, secrets: SharedSecrets, grave: Graveyard) -> None:
        self._maps, self._secrets, self._grave = maps, secrets, grave

    def close(self, state: VolumeState) -> None:
        """Nobody reads from now on. Idempotent."""
        self._grant(state).closed = 1
        self._secrets.set_away(state.plan.volume_id, True)

    def reopen(self, state: VolumeState) -> None:
        """The grant admits readers again. Idempotent."""
        self._secrets.set_away(state.plan.volume_id, False)
        self._grant(state).closed = 0

    def is_closed(self, state: VolumeState) -> bool:
        """As the kernel has it."""
        return bool(self._grant(state).closed)

    def keep(self, state: VolumeState) -> VolumeState:
        """Copies of what the volume shows, and files that lead to them; seen after `apply`."""
        kernel, holder = _kernel(state), state.plan.volume_id
        copies = self._secrets.keep(holder)
        kept = [
            SetState(one.ref, copies[one.ref].set_id, copies[one.ref].slot, dict(copies[one.ref].items))
            for one in kernel.sets
        ]
        return replace(state, kernel=replace(kernel, kept=kept, files_id=self._lead(state, copies)))

    def follow(self, state: VolumeState) -> VolumeState:
        """Files that lead to the sets that rotate; seen after `apply`."""
        shared = {one.ref: self._secrets[one.ref] for one in _kernel(state).sets}
        return replace(state, kernel=replace(_kernel(state), kept=[], files_id=self._lead(state, shared)))

    def apply(self, state: VolumeState) -> None:
        """One store; what the files led to before is freed when no program can be looking at it. Idempotent."""
        kernel, grant, holder = _kernel(state), self._grant(state), state.plan.volume_id
        before, grant.files_id = grant.files_id, kernel.files_id
        self._secrets.set_away(holder, bool(kernel.kept) or bool(grant.closed))
        if not kernel.kept:
            self._secrets.let_go(holder)
        if before != kernel.files_id:
            self._grave.bury(0, lambda: None, lambda: self._drop_files(before, kernel))

    def adopt(self, state: VolumeState) -> None:
        """What an earlier agent may have saved without getting to apply it."""
        kernel, grant = _kernel(state), self._grant(state)
        grant.files_id = kernel.files_id
        is_away = bool(kernel.kept) or bool(grant.closed)
        is_away |= bool(state.ended) and state.plan.on_unavailable is OnUnavailable.REFUSE
        self._secrets.set_away(state.plan.volume_id, is_away)

    def shown(self, state: VolumeState, ref: SecretRef) -> Shared:
        """What the volume's files lead to: its own copy, or the secret that all share."""
        return self._secrets.kept(state.plan.volume_id).get(ref) or self._secrets[ref]

    def _lead(self, state: VolumeState, sets: Mapping[SecretRef, Shared]) -> int:
        """Records of the volume's files under a number that no program looks at yet; nothing of them where one fails.
        A record is never changed in place: a program may be reading it."""
        files_id, kernel = self._maps.new_id(), _kernel(state)
        # Copies have the generations of what they are copies of, so what was read stays true.
        read = self._maps.read_generations(self._grant(state).files_id, kernel.inodes)
        try:
            for file, inode in zip(state.plan.files, kernel.inodes, strict=True):
                to = sets[file.ref]
                self._maps.put_file(files_id, inode, to.set_id, to.slot, to.items[file.key], read[inode])
        except BaseException:
            self._drop_files(files_id, kernel)
            raise
        return files_id

    def _drop_files(self, files_id: int, kernel: KernelState) -> None:
        for inode in kernel.inodes:
            self._maps.drop_file(files_id, inode)

    def _grant(self, state: VolumeState) -> Grant:
        return self._maps.grants[_kernel(state).grant_slot]


def _kernel(state: VolumeState) -> KernelState:
    assert state.kernel is not None
    return state.kernel
