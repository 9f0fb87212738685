"""`kernelsecret-ctl explain`: what admission would do with a pod, by the webhook's own policy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kernelsecret.cli.explain_sources import (
    Subject,
    connection_of,
    from_cluster,
    from_folder,
    from_manifest,
    pod_in_folder,
)
from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.cli.render import table
from webhook.policy.explanation import Explanation, Outcome, explain

_SAYS = {
    Outcome.INJECTED: "is given secrets",
    Outcome.REFUSED: "REFUSED",
    Outcome.NOT_ASKED: "is left as it is: it does not ask",
}


def run(
    name: str,
    *,
    namespace: str,
    manifest: Path | None,
    offline: Path | None,
    kubeconfig: Path | None,
    context: str,
    server: str,
    as_json: bool,
) -> int:
    """Print an explanation for each pod; 1 where one is refused. Raises CommandError and Refused."""
    if bool(name) == (manifest is not None):
        raise CommandError("name a pod, or a manifest with -f", Exit.USAGE)
    if offline is not None and (kubeconfig or context or server):
        raise CommandError("--offline asks no API server: leave --kubeconfig, --context and --server out", Exit.USAGE)
    if offline is not None:
        found = list(_offline(offline, manifest, namespace, name))
    else:
        found = asyncio.run(_online(name, namespace, manifest, kubeconfig, context, server))
    if as_json:
        print("\n".join(msgspec.json.encode(one).decode() for one in found))
    else:
        print("\n\n".join("\n".join(lines(one)) for one in found))
    return Exit.WRONG if any(one.outcome is Outcome.REFUSED for one in found) else Exit.OK


def _offline(root: Path, manifest: Path | None, namespace: str, name: str) -> Iterator[Explanation]:
    view = from_folder(root)
    if manifest is None:
        space = namespace or "default"
        yield explain(pod_in_folder(root, space, name), space, view)
        return
    for subject in from_manifest(manifest):
        yield explain(subject.pod, _namespace(subject, namespace, "default"), view)


async def _online(
    name: str, namespace: str, manifest: Path | None, kubeconfig: Path | None, context: str, server: str
) -> list[Explanation]:
    subjects = from_manifest(manifest) if manifest is not None else []
    connection = connection_of(kubeconfig, context, server)
    if not subjects:
        space = namespace or connection.namespace
        view, pod = await from_cluster(connection, space, name)
        assert pod is not None
        return [explain(pod, space, view, live=True)]
    spaces = [_namespace(subject, namespace, connection.namespace) for subject in subjects]
    views = {space: (await from_cluster(connection, space))[0] for space in dict.fromkeys(spaces)}
    return [explain(subject.pod, space, views[space]) for subject, space in zip(subjects, spaces, strict=True)]


def _namespace(subject: Subject, asked: str, default: str) -> str:
    """As kubectl does: the manifest and the command line must not disagree."""
    if asked and subject.namespace and asked != subject.namespace:
        why = f"the manifest is for the namespace {subject.namespace}, and --namespace says {asked}"
        raise CommandError(f"{why}: leave --namespace out", Exit.USAGE)
    return subject.namespace or asked or default


def lines(one: Explanation) -> list[str]:
    """An explanation for people."""
    kind = "runs now" if one.live else "if it were created now"
    shown = [f"pod          {one.namespace}/{one.pod} ({kind})", f"admission    {_SAYS[one.outcome]}"]
    if one.interceptor:
        engines = f", on nodes with the engine {' or '.join(one.engines)}" if one.engines else ""
        engines += " that can serve a pod with a user namespace" if one.idmapped else ""
        shown += [
            f"interceptor  {one.interceptor}",
            f"mode         {one.mode}{engines}",
            f"decision     {one.decision}",
            f"containers   {', '.join(one.containers)}",
            f"files at     {one.mount_path}",
        ]
    rows = [("RULE", "SAYS", "BECAUSE"), *((rule.rule, rule.verdict, rule.text) for rule in one.rules)]
    told = {rule.text for rule in one.rules}
    for refusal in one.refusals:
        text = f"{refusal.field}: {refusal.why}" + (f"; {refusal.fix}" if refusal.fix else "")
        if text not in told:
            rows.append((refusal.rule, "no", text))
    shown += ["", *table(rows)]
    if one.unaffected:
        shown += ["", f"UNAFFECTED   the shim does not reach {one.unaffected}"]
    if one.differences:
        shown += ["", *(f"DIFFERS      {text}" for text in one.differences)]
    return shown
