"""`kernelsecret-ctl secrets` of a running agent: which version is shown, and who has read it. Never a value."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.agent.harness import HERE, Node
from tests.agent.tokens import brought, token
from tests.agent.tree import Pod, files_of

OLD, NEW = b"canary-old-51d2c7f0b1", b"canary-new-9e44aa01c3"
TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"


def asked(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    """As an operator runs it."""
    command = [sys.executable, "-m", "kernelsecret.cli.main", "secrets", *words]
    flags = ["--admin-socket", str(node.run / "admin.sock")]
    return subprocess.run(
        [*command, *flags], cwd=HERE, env=node.env, capture_output=True, text=True, timeout=60, check=False
    )


def of(node: Node, pod: Pod) -> dict[str, Any]:
    """The pod's one secret, for programs."""
    done = asked(node, "--pod", f"{pod.ref.namespace}/{pod.ref.name}", "-o", "json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return dict(found)


async def test_who_has_read_which_version_is_shown_and_no_value_and_no_token(node: Node) -> None:
    node.secret("payments/db", {"password": OLD})
    node.interceptor("payments", [files_of("payments/db", "password")])
    pod = node.pod("web", "payments")
    await node.started()
    given = token(pod.ref, "vault", mark="canary-jti-5540")
    await node.publish(pod, volume_context={TOKENS: brought({"vault": given})})
    (reader,) = of(node, pod)["readers"]
    assert (reader["file"], reader["standing"]) == ("password", "unread")
    program = node.program(pod)
    assert program.read(pod.target / "password") == [OLD]
    first = of(node, pod)
    assert [one["standing"] for one in first["readers"]] == ["current"]
    node.secret("payments/db", {"password": NEW})
    await node.shows(pod, "password", NEW)
    second = of(node, pod)
    assert (second["source"], second["path"], second["problem"]) == ("file", "payments/db", "")
    assert [one["standing"] for one in second["readers"]] == ["current"]
    shown = asked(node)
    assert shown.returncode == 0
    assert "file:payments/db" in shown.stdout
    assert "1 of 1" in shown.stdout
    assert "no volume of the pod" in asked(node, "--pod", "shop/none").stderr
    for text in (shown.stdout, json.dumps(second)):
        assert not any(value.decode() in text for value in (OLD, NEW))
    node.assert_kept(OLD, NEW, given.encode(), given.split(".")[1].encode())
    await node.unpublish(pod)
