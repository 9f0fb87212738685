"""Plans of volumes, made by hand and by hypothesis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from agent.delivery.state import KernelState, Phase, SetState, VolumeState
from agent.model import (
    AccessRule,
    Action,
    EngineName,
    FilePlan,
    From,
    Notify,
    OnUnavailable,
    PodRef,
    Quota,
    SecretRef,
    VolumePlan,
)
from kernelsecret.interceptor import Mode


def plan(volume_id: str = "csi-1", secret: str = "db", **changes: Any) -> VolumePlan:
    """A volume of one secret's two files."""
    ref = SecretRef("file", secret)
    values: dict[str, Any] = {
        "volume_id": volume_id,
        "target_path": Path(f"/kubelet/{volume_id}/mount"),
        "pod": PodRef("shop", "web", "uid-1", "web"),
        "interceptor": "payments",
        "files": (FilePlan("user", ref, "username", 0o440), FilePlan("tls.key", ref, "key", 0o400)),
        "access": AccessRule(),
        "allow_unenforced": False,
        "uses_sub_path": False,
    }
    return VolumePlan(**values | changes)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NUMBERS = st.integers(0, 2**63)
SMALL = st.integers(0, 2**31)
OPTIONAL = st.none() | NUMBERS
REFS = st.builds(SecretRef, NAMES, NAMES)
QUOTAS = st.builds(Quota, OPTIONAL, OPTIONAL, OPTIONAL)
RULES = st.builds(AccessRule, st.sampled_from(From), st.lists(NAMES, max_size=3).map(tuple), st.sampled_from(Action))
PATHS = NAMES.map(lambda name: Path("/kubelet") / name.strip("/"))
PLANS = st.builds(
    VolumePlan,
    volume_id=NAMES,
    target_path=PATHS,
    pod=st.builds(PodRef, NAMES, NAMES, NAMES, NAMES),
    interceptor=NAMES,
    files=st.lists(st.builds(FilePlan, NAMES, REFS, NAMES, st.integers(0, 0o777)), max_size=3).map(tuple),
    access=RULES,
    allow_unenforced=st.booleans(),
    uses_sub_path=st.booleans(),
    owner_uid=SMALL,
    fs_group=st.none() | SMALL,
    notify=st.none() | st.builds(Notify, st.integers(1, 64), NAMES),
    open_files=SMALL,
    min_interval_s=st.floats(0, 1e6),
    namespace_quota=QUOTAS,
    pod_quota=QUOTAS,
    first_pid=OPTIONAL,
    max_file_bytes=SMALL,
    on_unavailable=st.sampled_from(OnUnavailable),
    mode=st.sampled_from(Mode),
)
SETS = st.builds(SetState, REFS, NUMBERS, SMALL, st.dictionaries(NAMES, st.integers(0, 63), max_size=3))
KERNELS = st.builds(
    KernelState,
    NUMBERS,
    SMALL,
    NUMBERS,
    NUMBERS,
    SMALL,
    st.lists(NUMBERS, max_size=3),
    st.lists(SETS, max_size=2),
    NUMBERS,
    st.lists(SETS, max_size=2),
)
STATES = st.builds(VolumeState, PLANS, st.sampled_from(EngineName), st.sampled_from(Phase), st.none() | KERNELS, NAMES)
