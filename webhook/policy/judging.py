"""Why a well-formed SecretInterceptor cannot work, and what its author should know of one that can. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kernelsecret.interceptor import Mode, Placement, ReadAs, SecretInterceptor, VaultMethod
from kernelsecret.problems import Problem
from webhook.policy.modes import counted, unusable
from webhook.policy.served import SERVED_SOURCES, UNENFORCED_MODES, is_waived
from webhook.policy.vault_agent.settings import VaultAgentSettings


def interceptor_problems(interceptor: SecretInterceptor) -> Iterator[Problem]:
    """Why a well-formed interceptor cannot work with this version, or on any pod."""
    spec = interceptor.spec
    for index, secret in enumerate(spec.secrets):
        for kind in secret.source.kinds:
            if kind not in SERVED_SOURCES:
                why = f"is not served by this version, which has {', '.join(SERVED_SOURCES)}"
                yield Problem(f"spec.secrets[{index}].source.{kind}", why, "use another source")
    problems = [unusable(mode, interceptor) for mode in counted(spec)]
    if all(problems):
        is_required = spec.delivery.placement is Placement.REQUIRE
        only = ", and it is the one that spec.delivery.placement requires" if is_required else ""
        for problem in dict.fromkeys(filter(None, problems)):
            yield Problem(problem.field, f"{problem.why}{only}", problem.fix)
    files = sum(len(secret.files) for secret in spec.secrets)
    for bound, at in ((spec.limits.pod, "pod"), (spec.limits.namespace, "namespace")):
        if files > bound.files:
            why = f"{bound.files}, but spec.secrets has {files} files: no pod could have its volume"
            yield Problem(f"spec.limits.{at}.files", why, f"allow at least {files}")


def interceptor_warnings(interceptor: SecretInterceptor, vault_agent: VaultAgentSettings | None) -> Iterator[str]:
    """What its author should know of an interceptor that can work."""
    spec = interceptor.spec
    modes = spec.delivery.modes
    for mode in modes:
        problem = unusable(mode, interceptor)
        if problem is not None:
            yield f"spec.delivery.modes: {mode.value} is passed over: {problem}"
        elif mode is Mode.VAULT_AGENT and vault_agent is None:
            yield f"spec.delivery.modes: {mode.value} is passed over: the webhook knows no Vault and no image for it"
    if is_waived(spec):
        where = [f"in mode {mode.value}" for mode in UNENFORCED_MODES if mode in modes]
        at = ", ".join((*where, "on nodes that serve by `tmpfs`"))
        yield f"spec.access.unenforced is allow: {at}, every process of the pod, and kubectl exec, can read the files"
    if spec.delivery.preload.prefixes and Mode.PRELOAD not in modes:
        yield "spec.delivery.preload is for mode preload, which spec.delivery.modes does not have"
    for index, secret in enumerate(spec.secrets):
        at = f"spec.secrets[{index}].source"
        why = "every pod that is given this reads with the agent's own right, also where its account has none"
        if secret.source.vault and secret.source.vault.auth.method is VaultMethod.APP_ROLE:
            yield f"{at}.vault.auth.method is appRole: {why}"
        if secret.source.kubernetes and secret.source.kubernetes.read_as is ReadAs.AGENT:
            yield f"{at}.kubernetes.readAs is agent: {why}"
