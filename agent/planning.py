"""What an interceptor gives a pod of some account: files, where they come from, and who may read them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType

from agent.model import AccessRule, Action, FilePlan, From, SecretRef
from agent.vault_ref import vault_ref
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import InterceptorSpec, ReadAs, SecretSpec
from kernelsecret.quantities import mode
from kernelsecret.shapes import shape_of

LACKING = MappingProxyType(
    {
        "vault": "set KERNELSECRET_VAULT_ADDRESS of the agent, or use another source",
        "kubernetes": "let the agent see the API server (KERNELSECRET_CLUSTER), or use another source",
    }
)
"""What an agent needs to have a source."""


def planned_access(spec: InterceptorSpec) -> AccessRule:
    """Who in the pod may read."""
    return AccessRule(From(spec.access.from_), spec.access.binaries, Action(spec.access.action))


def planned_files(spec: InterceptorSpec, namespace: str, account: str, sources: Collection[str]) -> list[FilePlan]:
    """The files of a volume of a pod of that account. Raises Refused (FAILED_PRECONDITION) for a source that this
    agent has not."""
    files = []
    for index, secret in enumerate(spec.secrets):
        ref = _ref(secret, namespace, account, f"spec.secrets[{index}].source", sources)
        for file in secret.files:
            shape = shape_of(file)
            key = shape.item if shape else file.key
            files.append(FilePlan(file.path, ref, key, mode(file.mode), shape, secret.name))
    return files


def _ref(secret: SecretSpec, namespace: str, account: str, at: str, sources: Collection[str]) -> SecretRef:
    source = secret.source
    kind = source.kinds[0]
    if kind not in sources:
        why = f"this agent has no such source; it has {', '.join(sorted(sources)) or 'none'}"
        raise Refused(Code.FAILED_PRECONDITION, f"{at}.{kind}", why, LACKING.get(kind, "use another source"))
    if source.file:
        return SecretRef(kind, source.file.path)
    if source.kubernetes:
        as_pod = source.kubernetes.read_as is ReadAs.POD
        return SecretRef(kind, f"{namespace}/{source.kubernetes.name}", f"{namespace}/{account}" if as_pod else "")
    assert source.vault is not None
    return vault_ref(source.vault, namespace, account)
