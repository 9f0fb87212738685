"""`kernelsecret-ctl push`, and the same by openssl and curl as docs/push.md has it, against the webhook's real door."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from kernelsecret.cli import push_command
from kernelsecret.cli.failures import CommandError, Exit
from tests.needs import need
from tests.unit.webhook.push.scene import DB, KEY, OTHER_KEY, Scene, pushing
from tests.unit.webhook.server.serving import HOST, context_of, serving
from webhook.server.tls import LiveTls

ROOT = Path(__file__).parents[3]
SECRET = "vault:secret/data/payments/db"


@dataclass
class Place:
    """A webhook that serves, and a folder with what a sender has."""

    scene: Scene
    folder: Path
    server: str

    def given(self, **changed: Any) -> dict[str, Any]:
        return {
            "sender": "ci",
            "key_file": self.folder / "ci.key",
            "server": self.server,
            "ca_file": self.folder / "ca.pem",
            "server_name": HOST,
            "within_s": 0.0,
            "as_json": False,
        } | changed

    async def push(self, *secrets: str, **changed: Any) -> int:
        return await asyncio.to_thread(push_command.run, secrets or (SECRET,), **self.given(**changed))

    async def refused(self, *secrets: str, **changed: Any) -> CommandError:
        with pytest.raises(CommandError) as refused:
            await self.push(*secrets, **changed)
        assert "canary" not in str(refused.value)
        return refused.value


@asynccontextmanager
async def standing(folder: Path, **given: Any) -> AsyncIterator[Place]:
    authority = trustme.CA()
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(authority))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "ci.key").write_bytes(KEY)
    async with pushing(**given) as scene:
        scene.now_ns = time.time_ns()
        async with serving(scene.one.app, tls) as port:
            yield Place(scene, folder, f"https://127.0.0.1:{port.address[1]}")


async def ran(*command: str, folder: Path) -> tuple[int, str, str]:
    """A program's exit status, output and errors."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("KERNELSECRET_")}
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=plain, stdout=-1, stderr=-1)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_push_is_told_every_agent(tmp_path: Path) -> None:
    async with standing(tmp_path) as place:
        options = ("--sender=ci", "--key-file=ci.key", "--ca-file=ca.pem", f"--server-name={HOST}")
        ctl = (sys.executable, "-m", "kernelsecret.cli.main", "push", SECRET, *options, f"--server={place.server}")
        status, out, err = await ran(*ctl, folder=tmp_path)
        assert (status, out, err) == (0, f"told every agent: {SECRET} has changed\n", "")
        assert place.scene.told() == [str(DB)]
        status, out, err = await ran(*ctl, "--output=json", folder=tmp_path)
        found = json.loads(out)
        assert (status, found["accepted"], found["secrets"]) == (0, True, [SECRET])


async def test_openssl_and_curl_do_the_same_as_the_page_has_it(tmp_path: Path) -> None:
    need(all(map(shutil.which, ("openssl", "curl", "od"))), "openssl, curl and od")
    page = (ROOT / "docs/push.md").read_text()
    [script] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    async with standing(tmp_path) as place:
        port = place.server.rpartition(":")[2]
        script = script.replace("https://kernelsecret-webhook.kernelsecret-system.svc", f"https://{HOST}:{port}")
        script = script.replace("curl ", f"curl --resolve {HOST}:{port}:127.0.0.1 ")
        for key in (KEY, bytes(range(64)), b"\n" * 31 + b"x", os.urandom(32)):
            (tmp_path / "ci.key").write_bytes(key)
            await place.scene.put_keys({"ci": key})
            async with asyncio.timeout(20):
                while place.scene.one.keys._keys.usable.get("ci") != key:  # noqa: ASYNC110 - brought by a watch
                    await asyncio.sleep(0)
            status, out, err = await ran("bash", "-euo", "pipefail", "-c", script, folder=tmp_path)
            assert (status, err) == (0, "")
            assert json.loads(out) == {"notices": 1}
        assert place.scene.told() == [str(DB)]
        assert place.scene.one.outcomes == {"accepted": 4}
        (tmp_path / "ci.key").write_bytes(OTHER_KEY)
        status, out, _ = await ran("bash", "-euo", "pipefail", "-c", script, folder=tmp_path)
        assert (status, json.loads(out)["field"]) == (22, "KernelSecret-Signature")


async def test_a_refusal_says_why_and_what_to_do_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with standing(tmp_path) as place:
        refused = await place.refused("vault:secret/data/other")
        assert refused.status == Exit.WRONG
        assert "refused with status 404" in str(refused)
        assert "no interceptor names vault:secret/data/other" in str(refused)
        assert await place.push(sender="who", as_json=True) == Exit.WRONG
        found = json.loads(capsys.readouterr().out)
        assert (found["accepted"], found["status"], found["field"]) == (False, 401, "KernelSecret-Sender")


async def test_a_busy_webhook_is_asked_again_by_a_new_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path) as place:
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            place.scene.named = frozenset({DB})

        place.scene.named = None
        monkeypatch.setattr(time, "sleep", sleep)
        assert await place.push(within_s=30.0) == Exit.OK
        assert slept == [1.0]  # as Retry-After asked
        assert place.scene.one.outcomes == {"unavailable": 1, "accepted": 1}


async def test_a_webhook_that_is_away_is_named(tmp_path: Path) -> None:
    async with standing(tmp_path) as place:
        refused = await place.refused(server="https://127.0.0.1:9")
        assert "127.0.0.1:9 does not answer (Connection refused)" in str(refused)
        assert refused.status == Exit.WRONG


async def test_another_authority_or_another_name_is_not_believed_and_gets_nothing(tmp_path: Path) -> None:
    async with standing(tmp_path) as place:
        assert "--server-name" in str(await place.refused(server_name="other.test"))
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        assert "its certificate is not believed" in str(await place.refused(ca_file=tmp_path / "other.pem"))
        assert not place.scene.one.outcomes


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"key_file": "missing.key"}, "--key-file: "),
        ({"key_file": "weak.key"}, "has 11 bytes and must have 32 at least"),
        ({"key_file": "."}, "--key-file: "),
        ({"ca_file": "missing.pem"}, "--ca-file: "),
        ({"ca_file": "weak.key"}, "holds no certificate"),
        ({"server": "http://127.0.0.1"}, "--server: "),
        ({"server": "https://127.0.0.1/v1/push"}, "--server: "),
        ({"server": "https://127.0.0.1:70000"}, "--server: "),
        ({"sender": "Not A Name"}, "--sender: "),
    ],
)
def test_what_cannot_work_is_a_usage_error_that_names_the_flag(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "ci.key").write_bytes(KEY)
    (tmp_path / "weak.key").write_bytes(b"canary-weak")
    given: dict[str, Any] = {
        name: tmp_path / value if name.endswith("_file") else value for name, value in changed.items()
    }
    place = Place(None, tmp_path, "https://127.0.0.1:9")  # type: ignore[arg-type]
    with pytest.raises(CommandError) as refused:
        push_command.run((SECRET,), **place.given(**given))
    assert refused.value.status == Exit.USAGE
    assert said in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("secret", ["db", "ldap:db", "vault:", ":x", "vault:" + "x" * 1025])
def test_what_names_no_secret_is_a_usage_error(tmp_path: Path, secret: str) -> None:
    place = Place(None, tmp_path, "https://127.0.0.1:9")  # type: ignore[arg-type]
    with pytest.raises(CommandError, match="is not SOURCE:PATH") as refused:
        push_command.run((secret,), **place.given())
    assert refused.value.status == Exit.USAGE


async def test_whoever_answers_and_is_not_the_webhook_is_told(tmp_path: Path) -> None:
    authority, tls = trustme.CA(), LiveTls(asks_peer=False)
    tls.use(context_of(authority))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "ci.key").write_bytes(KEY)

    async def other(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    async with serving(other, tls) as port:
        place = Place(None, tmp_path, f"https://127.0.0.1:{port.address[1]}")  # type: ignore[arg-type]
        assert "is not the webhook" in str(await place.refused())
