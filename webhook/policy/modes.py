"""Why a mode cannot be taken for a pod, or for any pod of an interceptor, whatever the nodes are. Pure."""

from __future__ import annotations

from kernelsecret.interceptor import InterceptorSpec, Mode, Placement, SecretInterceptor
from kernelsecret.problems import Problem, quoted
from webhook.policy.pods import Pod
from webhook.policy.served import UNENFORCED_MODES, Needs, is_waived
from webhook.policy.vault_agent.refusals import interceptor_problem as vault_agent_interceptor_problem
from webhook.policy.vault_agent.refusals import problem as vault_agent_problem
from webhook.policy.vault_agent.settings import VaultAgentSettings

_WAIVER = "set it to `allow`, or let the pod have mode `ebpf`"


def mode_problem(
    mode: Mode,
    pod: Pod,
    interceptor: SecretInterceptor,
    wanted: Needs | None,
    vault_agent: VaultAgentSettings | None,
) -> Problem | None:
    """Why a mode cannot serve the pod on any node, None if it can. `wanted` is what it needs of a node."""
    if mode in UNENFORCED_MODES and not is_waived(interceptor.spec):
        field = f"interceptor {quoted(interceptor.metadata.name)}: spec.access.unenforced"
        return Problem(field, f"mode `{mode.value}` cannot hold the access rule, and that is not waived", _WAIVER)
    if wanted is None:
        why = f"mode `{mode.value}` cannot serve a pod with a user namespace of its own: bpffs has no idmapped mounts"
        fix = "leave hostUsers out, or set it to true; a mode of ordinary files needs spec.access.unenforced: allow"
        return Problem("spec.hostUsers", why, fix)
    if mode is Mode.VAULT_AGENT:
        for index, volume in enumerate(pod.spec.volumes or ()):
            if volume.is_ours:  # the shim's too
                why = "mode `vault-agent` has no volume of this driver"
                return Problem(f"spec.volumes[{index}].csi.driver", why, "remove the volume, or ask for another mode")
        return vault_agent_problem(pod, interceptor, vault_agent)
    return None


def unusable(mode: Mode, interceptor: SecretInterceptor) -> Problem | None:
    """Why no pod at all can have a mode of its interceptor, by what the interceptor says."""
    if mode in UNENFORCED_MODES and not is_waived(interceptor.spec):
        why = f"mode `{mode.value}` cannot hold the access rule, and that is not waived"
        return Problem("spec.access.unenforced", why, _WAIVER)
    return vault_agent_interceptor_problem(interceptor) if mode is Mode.VAULT_AGENT else None


def counted(spec: InterceptorSpec) -> tuple[Mode, ...]:
    """The modes of which a pod can be given one: with placement `require` the first alone."""
    modes = spec.delivery.modes
    return modes[:1] if spec.delivery.placement is Placement.REQUIRE else modes
