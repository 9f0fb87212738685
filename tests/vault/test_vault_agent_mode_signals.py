"""Who is signalled after a rotation in mode `vault-agent`: the real agent runs our script in a shared pid namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernelsecret.names import VOLUME_NAME
from tests.apiserver.harness.processes import Process
from tests.apiserver.harness.waiting import until
from tests.needs import need_program
from tests.vault.agent_pods import PATH, USER, file, interceptor, may, pod, running, secret
from tests.vault.harness.agent_pod import AgentPod, children
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer
from webhook.policy.vault_agent.signals import SCRIPT

# Says when it is ready and when it is told, and has a child, which is told only where it is asked for by its program.
APPLICATION = """
trap 'echo told' HUP
sleep 600 &
echo ready
while :; do wait; done
"""


def two_containers() -> dict[str, Any]:
    """A pod that shares its processes: `app` has the files, `other` has not; both are of one user."""
    given = pod(shareProcessNamespace=True)
    app = given["spec"]["containers"][0]
    given["spec"]["containers"].append({"name": "other", "image": "other:1"})
    assert app["volumeMounts"][0]["name"] == VOLUME_NAME
    return given


@pytest.fixture(params=["main", "/usr/bin/sleep"])
def told(
    request: pytest.FixtureRequest, vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path
) -> Iterator[tuple[str, AgentPod]]:
    """A pod whose interceptor asks for SIGHUP, by whom it asks for."""
    vault.write(f"{kv}/data/db", data={"a": "1", "b": "1"})
    token = may(vault, jwt, f"{kv}/data/*: read")
    notify = {"signal": "SIGHUP", "process": request.param}
    wanted = interceptor(secret(jwt, f"{kv}/data/db", file("a"), file("b")), rotation={"notify": notify})
    with running(tmp_path / "pod", vault, token, wanted, given=two_containers()) as made:
        made.share_processes()
        yield request.param, made


def ready(made: AgentPod, name: str) -> Process:
    process = made.start(name, ["/bin/sh", "-c", APPLICATION])
    until(lambda: "ready" in process.said(), f"{name} runs", explain=process.tail)
    return process


def test_the_right_processes_are_told_once_and_no_others(
    told: tuple[str, AgentPod], vault: VaultServer, kv: str
) -> None:
    whom, made = told
    assert made.init().wait() == 0
    sidecar = made.sidecar()
    until(lambda: "renewed auth token" in sidecar.said(), "the sidecar has logged in", explain=sidecar.tail)
    app, other = ready(made, "app"), ready(made, "other")
    # What somebody has entered the container with is no application, also where it is of the same program.
    enter = ["nsenter", f"--target={made.pid(app)}", "--mount", "--pid", f"--setuid={USER}", f"--setgid={USER}"]
    entered = subprocess.Popen([*enter, "/bin/sh", "-c", "while :; do sleep 0.1; done"])
    try:
        before = children(made.pid(app))
        assert before
        vault.write(f"{kv}/data/db", data={"a": "2", "b": "2"})
        made.wait_for("b", b"2")
        if whom == "main":
            until(lambda: "told" in app.said(), "the application was told", explain=sidecar.tail)
            assert children(made.pid(app)) == before
        else:
            until(lambda: not set(children(made.pid(app))) & set(before), "the child was told", explain=sidecar.tail)
            assert "told" not in app.said()
        until(lambda: made.shows("a") == b"2", "both files are there")
        assert entered.poll() is None
        assert other.alive()
        assert "told" not in other.said()
        assert children(made.pid(other))
        assert app.said().count("told") <= 1
        assert sidecar.alive()
    finally:
        entered.kill()
        entered.wait()


def test_a_pod_that_starts_is_not_told_of_what_it_starts_with(
    told: tuple[str, AgentPod], vault: VaultServer, kv: str
) -> None:
    _, made = told
    assert made.init().wait() == 0
    app = ready(made, "app")
    sidecar = made.sidecar()
    until(lambda: "renewed auth token" in sidecar.said(), "the sidecar has logged in", explain=sidecar.tail)
    asked = vault.audit.mark()
    until(lambda: len(vault.audit.requests(f"{kv}/data/", since=asked)) > 1, "it has looked twice")
    assert "told" not in app.said()
    assert children(made.pid(app))
    assert "executing command" not in sidecar.said()


@pytest.mark.parametrize("shell", [["/bin/sh"], ["busybox", "sh"], ["bash", "--posix"]], ids=["sh", "busybox", "bash"])
def test_every_shell_takes_the_script_and_no_argument_is_read_as_a_program(shell: list[str], tmp_path: Path) -> None:
    need_program(shell[0])
    own = tmp_path / "own"
    own.mkdir()
    evil = f"$(touch {tmp_path}/evil);`touch {tmp_path}/evil`"
    for process in (evil, f"/usr/bin/{evil}", "main"):
        done = subprocess.run(
            [*shell, "-c", SCRIPT, "sh", "HUP", process, f"{PATH}/{evil}", str(own)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "evil").exists()
