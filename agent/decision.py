"""Whether a volume may be published, and what is in it. Pure: what is known comes in, a plan or a refusal comes out.

Request and registration are claims; the live pod, its namespace and the interceptor are the cluster's own view. Each
disagreement is a refusal of its own that names the field, so that whoever reads it in the pod's events can mend it.
What a volume that is published already may go on showing is `agent.right`'s to say.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from agent.kube.cluster import LivePod
from agent.model import (
    Notify,
    PodRef,
    PublishRequest,
    Quota,
    VolumePlan,
)
from agent.planning import planned_access, planned_files
from agent.policy import with_policy
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import (
    InterceptorSpec,
    Mode,
    NamespaceLimits,
    PodLimits,
    SecretInterceptor,
    Unenforced,
)
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INJECT,
    ANNOTATION_INJECT_ANY,
    ANNOTATION_MODE,
    ANNOTATION_MODE_AUTO,
    ATTRIBUTE_INTERCEPTOR,
    LABEL_INJECT,
    LABEL_INJECT_ENABLED,
)
from kernelsecret.problems import quoted
from kernelsecret.quantities import size
from kernelsecret.registration import Registration


def decide(
    request: PublishRequest,
    pod: LivePod,
    interceptor: SecretInterceptor,
    registration: Registration,
    node: str,
    *,
    now: datetime,
    sources: Collection[str] = ("file",),
) -> VolumePlan:
    """The plan of a new volume. Raises Refused with the field named.

    `now` has a time zone. `sources` are those that this agent has.
    """
    agree(request, pod, interceptor, node)
    _containers_agree(request, pod, interceptor)
    _registration_agrees(request, registration, node, now)
    spec = interceptor.spec
    plan = VolumePlan(
        volume_id=request.volume_id,
        target_path=request.target_path,
        pod=request.pod,
        interceptor=request.interceptor,
        files=tuple(planned_files(spec, pod.namespace, pod.service_account, sources)),
        access=planned_access(spec),
        allow_unenforced=spec.access.unenforced is Unenforced.ALLOW,
        uses_sub_path=pod.volumes[request.target_path.parent.name].uses_sub_path,
        owner_uid=pod.run_as_user or 0,
        fs_group=_group(request, pod),
        notify=_notify(spec),
        open_files=spec.limits.open_files,
        namespace_quota=_quota(spec.limits.namespace),
        pod_quota=_quota(spec.limits.pod),
        first_pid=pod.first_pid,
        max_file_bytes=size(spec.limits.max_file_bytes),
        mode=_mode(pod, interceptor),
    )
    return with_policy(plan, spec, pod)


def agree(request: PublishRequest, pod: LivePod, interceptor: SecretInterceptor, node: str) -> None:
    """Whether the cluster's own view lets the pod have the volume, whatever was registered. Raises Refused."""
    _pod_agrees(request, pod, node)
    if pod.deleted:
        raise Refused(Code.FAILED_PRECONDITION, "metadata.deletionTimestamp", "the pod is being deleted")
    _same(
        f"volume_context[{ATTRIBUTE_INTERCEPTOR}]",
        request.interceptor,
        interceptor.metadata.name,
        "the interceptor's name",
    )
    opted_in(pod, interceptor)
    _mode(pod, interceptor)


def claimed(request: PublishRequest, known: VolumePlan) -> VolumePlan:
    """The plan of a volume that is published, with what this request says of whose it is: to be compared."""
    group = known.fs_group if request.fs_group is None else request.fs_group
    return replace(
        known, target_path=request.target_path, pod=request.pod, interceptor=request.interceptor, fs_group=group
    )


def refresh(request: PublishRequest, pod: LivePod, node: str, known: VolumePlan) -> VolumePlan:
    """As `claimed`. Raises Refused where the live pod says otherwise.

    The pod may be ending, and no registration is needed: nothing is opened that is not open already.
    """
    _pod_agrees(request, pod, node)
    return replace(claimed(request, known), fs_group=_group(request, pod))


def _pod_agrees(request: PublishRequest, pod: LivePod, node: str) -> None:
    same_pod(request.pod, pod, node)
    name = request.target_path.parent.name
    volume = pod.volumes.get(name)
    if volume is None:
        why = f"the live pod has no volume {quoted(name)} of this driver"
        raise denied("spec.volumes", why)
    _same(f"spec.volumes[{name}].csi.volumeAttributes", request.interceptor, volume.interceptor or "", "the live pod's")


def same_pod(asked: PodRef, pod: LivePod, node: str) -> None:
    """Whether the live pod is the one that the request names, and runs here. Raises Refused."""
    _same(
        _asked("pod.uid"),
        asked.uid,
        pod.uid,
        "the live pod's UID",
        "the pod was replaced; kubelet asks for the new one",
    )
    _same(_asked("pod.namespace"), asked.namespace, pod.namespace, "the live pod's namespace")
    _same(_asked("pod.name"), asked.name, pod.name, "the live pod's name")
    _same(_asked("serviceAccount.name"), asked.service_account, pod.service_account, "the live pod's service account")
    _same("spec.nodeName", pod.node, node, "this node")


def _containers_agree(request: PublishRequest, pod: LivePod, interceptor: SecretInterceptor) -> None:
    """Admission refuses such a pod; this is for one that went past it."""
    named = interceptor.spec.delivery.containers
    others = sorted(pod.volumes[request.target_path.parent.name].mounted_by.difference(named))
    if named and others:
        why = f"does not give its files to the container {quoted(others[0])}, which mounts the volume"
        at = f"interceptor {interceptor.metadata.name}: spec.delivery.containers"
        raise denied(at, why, "create the pod anew without the mount")


def _registration_agrees(request: PublishRequest, registration: Registration, node: str, now: datetime) -> None:
    asked = request.pod
    what = "the request's"
    _same("registration.podUid", registration.pod_uid, asked.uid, what)
    _same("registration.namespace", registration.namespace, asked.namespace, what)
    _same("registration.name", registration.name, asked.name, what)
    _same("registration.serviceAccount", registration.service_account, asked.service_account, what)
    _same("registration.interceptor", registration.interceptor, request.interceptor, what)
    _same("registration.node", registration.node, node, "this node")
    if registration.expires_at <= now:
        why = f"the registration ended at {registration.expires_at.isoformat()}"
        raise denied("registration.expiresAt", why, "the pod has to be registered anew")


def opted_in(pod: LivePod, interceptor: SecretInterceptor) -> None:
    """Namespace, pod and interceptor are agreed that the pod gets it. Raises Refused (PERMISSION_DENIED)."""
    name = interceptor.metadata.name
    at = f"interceptor {name}"
    if interceptor.metadata.deletion_timestamp is not None:
        raise denied(f"{at}: metadata.deletionTimestamp", "it is being deleted", "use another interceptor")
    namespace_opted_in(pod)
    wanted = pod.annotations.get(ANNOTATION_INJECT)
    if wanted not in (ANNOTATION_INJECT_ANY, name):
        either = f"{ANNOTATION_INJECT_ANY}' or '{name}"
        raise denied(f"metadata.annotations[{ANNOTATION_INJECT}]", _not_opted(wanted, either), "annotate the pod")
    spec = interceptor.spec
    if not spec.namespace_selector.matches(pod.namespace_labels):
        raise denied(f"{at}: spec.namespaceSelector", f"does not select the namespace {quoted(pod.namespace)}")
    if not spec.pod_selector.matches(pod.labels):
        raise denied(f"{at}: spec.podSelector", f"does not select the pod {quoted(pod.name)}")
    chosen = pod.annotations.get(ANNOTATION_MODE, ANNOTATION_MODE_AUTO)
    if chosen != ANNOTATION_MODE_AUTO and chosen not in {str(allowed) for allowed in spec.delivery.modes}:
        why = f"{quoted(chosen)} is not one of the interceptor's spec.delivery.modes"
        raise denied(f"metadata.annotations[{ANNOTATION_MODE}]", why)


def namespace_opted_in(pod: LivePod) -> None:
    """The namespace lets its pods opt in. Raises Refused (PERMISSION_DENIED)."""
    label = pod.namespace_labels.get(LABEL_INJECT)
    if label != LABEL_INJECT_ENABLED:
        fix = f"kubectl label namespace {pod.namespace} {LABEL_INJECT}={LABEL_INJECT_ENABLED}"
        raise denied(f"namespace.metadata.labels[{LABEL_INJECT}]", _not_opted(label, LABEL_INJECT_ENABLED), fix)


def _mode(pod: LivePod, interceptor: SecretInterceptor) -> Mode:
    """What admission chose; `ebpf` where nobody has chosen. Raises Refused (PERMISSION_DENIED)."""
    at, chosen = f"metadata.annotations[{ANNOTATION_CHOSEN_MODE}]", pod.annotations.get(ANNOTATION_CHOSEN_MODE)
    if chosen == Mode.VAULT_AGENT:
        why = f"{quoted(chosen)} takes nothing from this node, and the pod has a volume of this driver"
        raise denied(at, why, "create the pod anew without the volume")
    allowed = interceptor.spec.delivery.modes
    for mode in allowed:
        if mode == (chosen or Mode.EBPF):
            return mode
    told = quoted(chosen) if chosen else f"missing, which means '{Mode.EBPF}', and that"
    why = f"{told} is not one of the interceptor's spec.delivery.modes ({', '.join(allowed)})"
    raise denied(at, why, "create the pod anew, for admission to choose again")


def _group(request: PublishRequest, pod: LivePod) -> int | None:
    if request.fs_group is not None and request.fs_group != pod.fs_group:
        _same(
            "volume_capability.mount.volume_mount_group",
            str(request.fs_group),
            str(pod.fs_group),
            "the live pod's spec.securityContext.fsGroup",
        )
    return pod.fs_group


def _notify(spec: InterceptorSpec) -> Notify | None:
    wanted = spec.rotation.notify
    return Notify(signal.Signals[wanted.signal].value, wanted.process) if wanted else None


def _quota(limits: PodLimits | NamespaceLimits) -> Quota:
    return Quota(size(limits.bytes_), limits.files, limits.volumes)


def _asked(name: str) -> str:
    """The field of the CSI request, as kubelet writes it."""
    return f"volume_context[csi.storage.k8s.io/{name}]"


def _not_opted(found: str | None, wanted: str) -> str:
    return f"{'missing' if found is None else quoted(found)}, must be '{wanted}'"


def _same(field: str, said: str, truth: str, what: str, fix: str = "") -> None:
    if said != truth:
        raise denied(field, f"{quoted(said)} is not {what} {quoted(truth)}", fix)


def denied(field: str, why: str, fix: str = "") -> Refused:
    """A refusal of what the pod may not have."""
    return Refused(Code.PERMISSION_DENIED, field, why, fix)
