"""The real Vault Agent that shows one KV v2 secret: as it is by default, and as mode `vault-agent` has it in a pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.vault_world import VaultWorld
from tests.apiserver.harness.processes import Process
from tests.apiserver.harness.waiting import until
from tests.vault.agent_pods import file, interceptor, may, running, secret
from tests.vault.harness.agent_pod import AgentPod
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.programs import vault_program

LEFT, RIGHT = "<<", ">>"
LIMIT_S: Final = 30.0


class Sidecar:
    """See `started`."""

    def __init__(self, made: VaultWorld, name: str) -> None:
        self._folder = made.world.folder / f"sidecar-{name}"
        self._folder.mkdir()
        self.file = self._folder / "value"
        settings = self._folder / "agent.json"
        settings.write_text(json.dumps(self._settings(made, name)))
        program = vault_program()
        assert program is not None
        self._process = Process([program, "agent", f"-config={settings}"], self._folder / "agent.log")

    @classmethod
    @contextmanager
    def started(cls, made: VaultWorld, name: str) -> Iterator[Sidecar]:
        """One that renders the secret `name` as it does by default."""
        sidecar = cls(made, name)
        try:
            yield sidecar
        finally:
            sidecar._process.stop()

    def wait_rendered(self) -> Path:
        """Wait for the file; where it is."""
        until(self.file.exists, "Vault Agent has rendered", explain=self._process.tail)
        return self.file

    def shows(self, wanted: bytes) -> bool:
        """Whether the file has this value."""
        return self.file.read_bytes() == wanted

    def changed(self) -> float:
        """When it was rendered last, in seconds since the epoch."""
        return self.file.stat().st_mtime

    def _settings(self, made: VaultWorld, name: str) -> dict[str, Any]:
        role_id, secret_id = self._folder / "role-id", self._folder / "secret-id"
        for path, text in ((role_id, made.role_id), (secret_id, made.login.secret_id("agent"))):
            path.touch(mode=0o600)
            path.write_text(text)
        ids = {
            "role_id_file_path": str(role_id),
            "secret_id_file_path": str(secret_id),
            "remove_secret_id_file_after_reading": False,
        }
        contents = f'{LEFT} with secret "{made.data(name)}" {RIGHT}{LEFT} .Data.data.key {RIGHT}{LEFT} end {RIGHT}'
        template = {
            "contents": contents,
            "destination": str(self.file),
            "left_delimiter": LEFT,
            "right_delimiter": RIGHT,
            "error_on_missing_key": True,
        }
        return {
            "vault": {"address": made.vault.url, "ca_cert": str(made.vault.ca_file)},
            "auto_auth": {"method": [{"type": "approle", "mount_path": f"auth/{made.login.mount}", "config": ids}]},
            "template": [template],
        }


class PodSidecar:
    """The sidecar of a patched pod, which looks every second."""

    def __init__(self, pod: AgentPod, process: Process) -> None:
        self.file = pod.files / "value"
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, made: VaultWorld, name: str) -> Iterator[PodSidecar]:
        """One that renders the secret `name`."""
        jwt = JwtAuth(made.vault)
        token = may(made.vault, jwt, f"{made.kv}/data/*: read")
        wanted = interceptor(secret(jwt, made.data(name), file("value", "key")))
        with running(made.world.folder / f"sidecar-{name}", made.vault, token, wanted) as pod:
            yield cls(pod, pod.sidecar())

    def wait_rendered(self) -> Path:
        """Wait for the file; where it is."""
        until(self.file.exists, "Vault Agent has rendered", explain=self._process.tail)
        return self.file

    def rss_mb(self) -> float:
        """Resident memory, in MB of 10^6 bytes."""
        return self._process.resident_mb()
