"""What the kernel said no to while a volume was made, as a refusal for kubelet and as a condition of the node."""

from __future__ import annotations

import errno
import time
from types import MappingProxyType

from agent.delivery.mounts import MountError
from agent.kernel.calls import KernelError
from agent.model import ShimRequest, VolumePlan
from agent.observe.conditions import Conditions, Reason
from agent.observe.recorder import Recorder
from agent.observe.records import KernelLimit
from kernelsecret.errors import Code, Refused

LIMITS = MappingProxyType(
    {
        errno.ENOMEM: "the kernel is out of memory",
        errno.ENOSPC: "a map or a file system of the node is full",
        errno.E2BIG: "a map of the node is full",
        errno.EMFILE: "the agent has too many files open",
        errno.ENFILE: "the node has too many files open",
    }
)


def limit_met(
    plan: VolumePlan | ShimRequest,
    error: KernelError | MountError | OSError,
    conditions: Conditions,
    recorder: Recorder,
) -> Refused:
    """Tell of it, and say it in the words for the pod's events."""
    number = error.errno or 0
    name = errno.errorcode.get(number, str(number))
    call = error.call if isinstance(error, KernelError | MountError) else "file"
    recorder.record(
        KernelLimit(
            time_ns=time.time_ns(),
            call=call,
            errno=name,
            volume_id=plan.volume_id,
            namespace=plan.pod.namespace,
        )
    )
    if number == errno.EROFS:
        conditions.hold(Reason.BPFFS_READ_ONLY, why=f"{call}: {name}")
        why = "the agent's bpffs or folder is read-only"
        return Refused(Code.FAILED_PRECONDITION, "node", why, "mount it writable again")
    if number in LIMITS:
        conditions.hold(Reason.KERNEL_LIMIT, why=f"{call}: {name}")
        why = f"{LIMITS[number]} ({call}: {name})"
        return Refused(Code.RESOURCE_EXHAUSTED, "node", why, "move pods to another node")
    return Refused(Code.INTERNAL, "node", f"{call}: {name}", "look into the agent's log")
