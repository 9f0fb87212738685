"""Executables that the rule names: those very files, wherever and by whomever they are executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kernel.layout import EventType, Reason
from agent.model import From
from tests.kernel.harness.family import PYTHON
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import CAT, FILE, VALUE, cats, served, shown
from tests.kernel.harness.waiting import wait_until


def state_of(pid: int) -> str:
    """The letter that /proc has for a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_named_binary_reads_under_app_also_from_outside(any_node: Node) -> None:
    """How an exec probe or a lifecycle hook is allowed."""
    pod, volume = shown(any_node, From.APP, CAT)
    app = pod.container()
    any_node.handle_starts()
    assert pod.exec_program(app, CAT, FILE) == (0, VALUE)
    assert pod.exec_program(app, "/usr/bin/head", FILE)[0] != 0
    assert not served(pod.exec(app))
    assert cats(pod.exec(app))
    assert volume.refusals() == {Reason.ENTERED: 2}


def test_a_named_binary_reads_under_main_when_a_child_executes_it(node: Node) -> None:
    pod, _ = shown(node, From.MAIN, CAT)
    app = pod.container()
    node.handle_starts()
    assert cats(app)
    assert app.run("/usr/bin/head", FILE)[0] != 0


def test_only_named_binaries_read_where_the_rule_says_so(any_node: Node) -> None:
    pod, volume = shown(any_node, From.BINARIES, CAT)
    pod.start()
    any_node.handle_starts()
    app = pod.family.welcome()
    assert not served(app)
    assert cats(app)
    assert pod.exec_program(app, CAT, FILE) == (0, VALUE)
    assert volume.refusals() == {Reason.BINARY: 1}


def test_a_container_waits_at_its_first_program_until_its_binaries_are_known(any_node: Node) -> None:
    """No read is refused for having come before the agent."""
    pod, volume = shown(any_node, From.BINARIES, PYTHON)
    pod.start()
    told = any_node.wait_for_event(EventType.STARTED)
    wait_until(lambda: state_of(told.tgid) == "T", "the container is stopped")
    any_node.handle_starts()
    app = pod.family.welcome()
    assert served(app)
    assert volume.refusals() == {}


@pytest.mark.parametrize("from_", [From.APP, From.BINARIES])
def test_binaries_are_found_on_an_overlay_too(any_node: Node, from_: From, tmp_path: Path) -> None:
    """stat() on overlayfs shows other numbers than the kernel keeps of what executes."""
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    (lower / "reader").write_bytes(Path(CAT).resolve().read_bytes())
    (lower / "other").write_bytes(Path(CAT).resolve().read_bytes())
    for name in ("reader", "other"):
        (lower / name).chmod(0o755)
    pod, _ = shown(any_node, from_, "/reader")
    pod.start(overlay=f"lowerdir={lower},upperdir={upper},workdir={work}")
    any_node.handle_starts()
    app = pod.family.welcome()
    shell = pod.exec(app)
    assert shell.run("/reader", FILE)[:2] == (0, VALUE)
    assert shell.run("/other", FILE)[0] == 1


def test_a_copy_of_a_named_binary_is_not_it(node: Node) -> None:
    pod, volume = shown(node, From.BINARIES, CAT)
    pod.start()
    node.handle_starts()
    app = pod.family.welcome()
    assert app.run(CAT, FILE)[:2] == (0, VALUE)
    assert app.run("/usr/bin/cp", CAT, "/tmp/cat")[0] == 0
    assert app.run("/tmp/cat", FILE)[:2] == (1, b"")
    assert volume.refusals() == {Reason.BINARY: 1}


def test_the_dynamic_loader_as_interpreter_is_not_the_binary(node: Node) -> None:
    pod, volume = shown(node, From.BINARIES, CAT)
    pod.start()
    node.handle_starts()
    app = pod.family.welcome()
    loaders = [path for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-linux*.so.*")]
    code, out, _ = app.run(str(loaders[0]), CAT, FILE)
    assert (code, out) == (1, b"")
    assert volume.refusals() == {Reason.BINARY: 1}


def test_a_link_to_a_named_binary_is_it_and_a_file_put_in_its_place_is_not(node: Node, tmp_path: Path) -> None:
    layers = {name: tmp_path / name for name in ("lower", "upper", "work")}
    for folder in layers.values():
        folder.mkdir()
    for name in ("reader", "evil"):
        (layers["lower"] / name).write_bytes(Path(CAT).resolve().read_bytes())
        (layers["lower"] / name).chmod(0o755)
    pod, _ = shown(node, From.BINARIES, "/reader")
    pod.start(overlay=",".join(f"{name}dir={path}" for name, path in layers.items()))
    node.handle_starts()
    app = pod.family.welcome()
    app("attempt", "symlink", "/reader", "/tmp/soft")
    assert app.run("/tmp/soft", FILE)[:2] == (0, VALUE)
    assert app.run("/evil", FILE)[0] == 1
    app("attempt", "rename", "/evil", "/reader")
    assert app.run("/reader", FILE)[0] == 1


def test_a_chroot_with_another_program_at_the_named_path_is_refused(node: Node) -> None:
    pod, volume = shown(node, From.BINARIES, CAT)
    pod.start()
    node.handle_starts()
    app = pod.family.welcome()
    assert app.run("/bin/sh", "-c", "mkdir -p /tmp/jail/usr/bin && cp /usr/bin/busybox /tmp/jail/usr/bin/cat")[0] == 0
    fd = app.open(FILE)
    app("attempt", "set_inheritable", fd, True)
    child = app.spawn()
    child("attempt", "dup2", fd, 0)
    child("attempt", "chroot", "/tmp/jail")
    code, out, complaint = child.run_on_stdin("/usr/bin/cat")
    assert (code, out, "Argument list too long" in complaint) == (1, b"", True)
    assert volume.refusals() == {Reason.BINARY: 1}
