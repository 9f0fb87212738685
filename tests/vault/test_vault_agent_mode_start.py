"""How a pod in mode `vault-agent` starts, with the real Vault Agent: by which login, with whose files, or why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.harness.certificates import Certificates
from tests.apiserver.harness.cluster import Cluster
from tests.vault.agent_pods import NAME, ROLE, USER, file, files, interceptor, may, pod, rotate, running, secret
from tests.vault.harness.logins import JwtAuth, KubernetesAuth
from tests.vault.harness.server import VaultServer, new_path


def test_the_init_container_ends_well_once_every_file_is_there(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path
) -> None:
    rotate(vault, kv, username="app", password="first")
    token = may(vault, jwt, f"{kv}/data/*: read")
    wanted = interceptor(secret(jwt, f"{kv}/data/db", *files("username", "password")))
    with running(tmp_path / "pod", vault, token, wanted) as made:
        assert made.init().wait() == 0
        assert (made.shows("username"), made.shows("password")) == (b"app", b"first")
        found = (made.files / "password").stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o440, USER)
        assert sorted(path.name for path in made.files.iterdir()) == ["password", "username"]


def test_a_pod_logs_in_by_kubernetes_with_its_own_token(
    vault: VaultServer, kv: str, jwt: JwtAuth, cluster: Cluster, tmp_path: Path
) -> None:
    auth, namespace = KubernetesAuth(vault, cluster), new_path("payments")
    cluster.namespace(namespace)
    cluster.account(namespace, "api")
    auth.add_role(ROLE, namespace, "api", vault.policy(f"{kv}/data/*: read"))
    vault.write(f"{kv}/data/db", data={"password": "first"})
    asked = secret(jwt, f"{kv}/data/db", file("password"))
    asked["source"]["vault"]["auth"] = {"mount": auth.mount}
    token = cluster.token(namespace, "api", audience="vault")
    with running(tmp_path / "pod", vault, token, interceptor(asked)) as made:
        init = made.init()
        assert init.wait() == 0, init.tail()
        assert made.shows("password") == b"first"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("role", 'role "app" could not be found'),
        ("token", "error validating token"),
        ("policy", "permission denied"),
        ("path", "no secret exists at"),
        ("key", "file 'password': the secret has no key 'password'"),
        ("certificate", "certificate signed by unknown authority"),
        ("address", "connection refused"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_said_and_the_container_fails(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path, wrong: str, said: str
) -> None:
    key = "other" if wrong == "key" else "password"
    vault.write(f"{kv}/data/db", data={key: "sesame"})
    token = may(vault, jwt, *([] if wrong == "policy" else [f"{kv}/data/*: read"]))
    if wrong == "role":
        vault.delete(f"auth/{jwt.mount}/role/{ROLE}")
    if wrong == "token":
        token = jwt.token("system:serviceaccount:payments:api", lives_s=-3600)
    path = f"{kv}/data/{'nothing' if wrong == 'path' else 'db'}"
    wanted = interceptor(secret(jwt, path, file("password")))
    changes: dict[str, Any] = {"address": "https://127.0.0.1:1"} if wrong == "address" else {}
    if wrong == "certificate":
        changes["ca_pem"] = Certificates(tmp_path / "other").authority.read_text()
    with running(tmp_path / "pod", vault, token, wanted, **changes) as made:
        init = made.init()
        assert init.wait() == 1
        assert said in init.said()
        assert list(made.files.iterdir()) == []
        assert token not in init.said()
        assert "sesame" not in init.said()


def test_a_sealed_vault_keeps_a_pod_from_starting_until_it_is_unsealed(own_vault: VaultServer, tmp_path: Path) -> None:
    jwt, kv = JwtAuth(own_vault), own_vault.enable("kv", version="2")
    own_vault.write(f"{kv}/data/db", data={"password": "first"})
    token = may(own_vault, jwt, f"{kv}/data/*: read")
    wanted = interceptor(secret(jwt, f"{kv}/data/db", file("password")))
    with running(tmp_path / "pod", own_vault, token, wanted) as made:
        own_vault.seal()
        init = made.init()
        assert init.wait() == 1
        assert "Vault is sealed" in init.said()
        own_vault.unseal()
        assert made.init().wait() == 0
        assert made.shows("password") == b"first"


# Its files


@pytest.mark.parametrize(
    ("security", "container", "mode", "owner", "group"),
    [
        ({"runAsUser": 1234}, {}, 0o400, 1234, None),
        ({"fsGroup": 4321}, {"runAsUser": 0}, 0o440, 65532, 4321),
        ({}, {"runAsUser": 77, "runAsGroup": 77}, 0o400, 77, 77),
        ({}, {}, 0o440, 65532, 65532),
    ],
    ids=["one-user", "fs-group", "a-container-s-user", "no-user"],
)
def test_the_application_can_read_its_files_and_nobody_can_write_them(
    vault: VaultServer,
    kv: str,
    jwt: JwtAuth,
    tmp_path: Path,
    security: dict[str, int],
    container: dict[str, int],
    mode: int,
    owner: int,
    group: int | None,
) -> None:
    vault.write(f"{kv}/data/db", data={"password": "first"})
    token = may(vault, jwt, f"{kv}/data/*: read")
    given = pod(securityContext=security)
    given["spec"]["containers"][0]["securityContext"] = container
    wanted = interceptor(secret(jwt, f"{kv}/data/db", file("password", mode=f"{mode:04o}")))
    with running(tmp_path / "pod", vault, token, wanted, given=given) as made:
        assert made.init().wait() == 0
        facts = (made.files / "password").stat()
        assert (facts.st_mode & 0o777, facts.st_uid) == (mode, owner)
        assert group is None or facts.st_gid == group
        path = f"/var/run/secrets/{NAME}/password"
        reader = made.start("app", ["cat", path])
        assert reader.wait() == 0, reader.tail()
        assert reader.said() == "first"
        assert made.start("app", ["sh", "-c", f"echo evil > {path}"]).wait() != 0
        assert made.start("app", ["rm", "-f", path]).wait() != 0
        assert made.shows("password") == b"first"
