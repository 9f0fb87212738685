"""A real Vault: `vault server` over files, with TLS by an authority of its own, on a free port of loopback.

with VaultServer.started(folder) as vault:
    kv = vault.enable("kv", version="2")
    vault.write(f"{kv}/data/app", data={"password": "one"})
    vault.seal(); vault.unseal(); vault.kill(); vault.start()
    vault.audit.requests(kv)
"""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import hvac
import requests
from hvac.exceptions import InvalidPath, InvalidRequest

from tests.apiserver.harness.certificates import Certificates
from tests.apiserver.harness.processes import Process, free_port
from tests.apiserver.harness.waiting import until
from tests.vault.harness.audit import Audit
from tests.vault.harness.programs import lacks_vault, vault_program

HOST: Final = "127.0.0.1"
STOPPED, SEALED, ACTIVE = 0, 503, 200


class VaultServer:
    """One server with one unseal key. Its data outlives `stop`, `kill` and `seal`.

    `listener` are more settings of its TLS listener, as `{"tls_require_and_verify_client_cert": True}`; the authority
    of client certificates is `ca_file` too.
    """

    def __init__(self, folder: Path, *, listener: Mapping[str, Any] | None = None, hosts: Sequence[str] = ()) -> None:
        self.folder = folder
        self.certificates = Certificates(folder / "certificates")
        self.ca_file = self.certificates.authority
        self.certificate, self.key = self.certificates.server("vault", HOST, "localhost", *hosts)
        self.port = free_port()
        self.url = f"https://{HOST}:{self.port}"
        self.audit = Audit(folder / "audit.log")
        self.root_token = ""
        self._unseal_key = ""
        self._clients: dict[str, hvac.Client] = {}
        self._settings = folder / "vault.json"
        self._settings.write_text(json.dumps(self._config(listener or {})))
        self._process: Process | None = None

    @classmethod
    @contextmanager
    def started(cls, folder: Path, **settings: Any) -> Iterator[VaultServer]:
        """Start one in `folder`, which is there and empty, unsealed and audited; it ends with the block."""
        server = cls(folder, **settings)
        try:
            server.start()
            yield server
        finally:
            server.close()

    # Its life

    @property
    def process(self) -> Process:
        """The one that runs, or ran last."""
        assert self._process is not None, "not started"
        return self._process

    def start(self, *, unseal: bool = True) -> None:
        """Start it (again, with its data), and wait until it serves; sealed if not `unseal`."""
        program = vault_program()
        assert program is not None, lacks_vault()
        command: list[str | Path] = [program, "server", f"-config={self._settings}"]
        self._process = Process(command, self.folder / "vault.log", own_group=True)
        until(lambda: self.process.alive() and self.state() != STOPPED, "vault answers", explain=self.process.tail)
        if not self.root_token:
            self._initialise()
        elif unseal:
            self.unseal()

    def stop(self) -> None:
        """End it in order, as an upgrade does."""
        self.process.stop()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def restart(self) -> None:
        """Crash and come back, unsealed."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Hang: connections are accepted by the kernel, and nobody answers. `resume` ends it."""
        self.process.pause()

    def resume(self) -> None:
        """Run on after `pause`."""
        self.process.resume()

    def seal(self) -> None:
        """Seal it: every request is answered by 503 from now on."""
        self.write("sys/seal")
        until(lambda: self.state() == SEALED, "vault is sealed", explain=self.process.tail)

    def unseal(self) -> None:
        """Unseal it, and wait until it serves."""
        self.root.sys.submit_unseal_key(self._unseal_key)
        until(lambda: self.state() == ACTIVE, "vault is active", explain=self.process.tail)

    def reload(self) -> None:
        """Have it read its listener's certificate and key (`certificate`, `key`) again; does not wait."""
        self.process.signal(signal.SIGHUP)

    def state(self) -> int:
        """The status of /v1/sys/health: ACTIVE, SEALED, 501 before it was initialised; STOPPED where none answers."""
        try:
            return requests.get(f"{self.url}/v1/sys/health", verify=str(self.ca_file), timeout=5).status_code
        except requests.ConnectionError:
            return STOPPED

    def close(self) -> None:
        """End it and all clients."""
        for client in self._clients.values():
            client.adapter.close()
        if self._process:
            self._process.stop()

    # What an administrator does

    @property
    def root(self) -> hvac.Client:
        """The client with the root token."""
        return self.client(self.root_token)

    def client(self, token: str = "") -> hvac.Client:
        """The client with this token, or the one without a token, to log in; closed with the server."""
        if token not in self._clients:
            self._clients[token] = hvac.Client(self.url, token=token, verify=str(self.ca_file), timeout=30)
        return self._clients[token]

    def write(self, path: str, /, **data: Any) -> dict[str, Any]:
        """Write to any path, without `v1/`, as root; the whole answer, empty where there is none."""
        return self._ask("post", path, json=data)

    def read(self, path: str) -> dict[str, Any]:
        """Read any path as root; the whole answer. InvalidPath of hvac where nothing is there."""
        return self._ask("get", path)

    def delete(self, path: str) -> None:
        """Delete any path as root."""
        self._ask("delete", path)

    def enable(self, kind: str, *, config: Mapping[str, Any] | None = None, **options: str) -> str:
        """Mount a secrets engine (kv, database, pki, transit) at a new path, which is returned: like `kv-1f3a`.

        A KV engine is made ready: a new KV v2 answers for a moment that it is being upgraded.
        """
        path = new_path(kind)
        self.write(f"sys/mounts/{path}", type=kind, options=options, config=dict(config or {}))
        if kind == "kv" and options.get("version") == "2":
            until(lambda: self._upgraded(path), "the new KV engine is ready", explain=self.process.tail)
        return path

    def enable_login(self, kind: str, **settings: Any) -> str:
        """Mount an auth method (kubernetes, jwt, approle, userpass) at a new path, returned without `auth/`."""
        path = new_path(kind)
        self.write(f"sys/auth/{path}", type=kind, **settings)
        return path

    def policy(self, *rules: str) -> str:
        """A new policy of rules like `kv-1/data/app: read, list`; its name. `set_policy` changes it."""
        name = new_path("policy")
        self.set_policy(name, *rules)
        return name

    def set_policy(self, name: str, *rules: str) -> None:
        """Replace the rules of a policy; no rule forbids all. Vault holds to it from the next request on."""
        pairs = (rule.rpartition(": ")[::2] for rule in rules)
        text = {path: {"capabilities": [word.strip() for word in can.split(",")]} for path, can in pairs}
        self.write(f"sys/policies/acl/{name}", policy=json.dumps({"path": text}))

    def token(self, *policies: str, **settings: Any) -> str:
        """A token with these policies and no other (`ttl`, `explicit_max_ttl`, `period`, ...)."""
        made = self.write("auth/token/create-orphan", policies=policies, no_default_policy=True, **settings)
        return str(made["auth"]["client_token"])

    def leases(self, under: str) -> list[str]:
        """Ids of the leases that are held under a path, like `database-1/creds/app`."""
        try:
            keys = self._ask("list", f"sys/leases/lookup/{under.rstrip('/')}/")["data"]["keys"]
        except InvalidPath:
            return []
        return [f"{under.rstrip('/')}/{key}" for key in keys]

    def revoke(self, lease: str) -> None:
        """Revoke a lease; returns when what it stands for is gone."""
        self.write("sys/leases/revoke", lease_id=lease, sync=True)

    # Within

    def _ask(self, method: str, path: str, **settings: Any) -> dict[str, Any]:
        answer = self.root.adapter.request(method, f"/v1/{path}", **settings)
        # hvac gives the answer itself where there is no JSON in it.
        return answer if isinstance(answer, dict) else {}

    def _upgraded(self, path: str) -> bool:
        try:
            self.read(f"{path}/config")
        except InvalidRequest:
            return False
        return True

    def _initialise(self) -> None:
        made = self.write("sys/init", secret_shares=1, secret_threshold=1)
        self.root_token, self._unseal_key = made["root_token"], made["keys"][0]
        self.unseal()
        self.write("sys/audit/file", type="file", options={"file_path": str(self.audit.file)})

    def _config(self, listener: Mapping[str, Any]) -> dict[str, Any]:
        tls = {
            "address": f"{HOST}:{self.port}",
            "tls_cert_file": str(self.certificate),
            "tls_key_file": str(self.key),
            "tls_client_ca_file": str(self.ca_file),
        }
        return {
            "storage": {"file": {"path": str(self.folder / "data")}},
            "listener": [{"tcp": tls | dict(listener)}],
            "api_addr": self.url,
            "disable_mlock": True,
            "ui": False,
        }


def new_path(kind: str) -> str:
    """A name that no other test has."""
    return f"{kind}-{uuid.uuid4().hex[:8]}"
