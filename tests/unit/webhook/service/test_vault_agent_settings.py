from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelsecret.errors import Refused
from webhook.options import PREFIX
from webhook.settings import Settings
from webhook.vault_agent_settings import vault_agent_settings

BOTH = {"vault_address": "https://vault.test:8200", "vault_agent_image": "vault:1.21.4"}
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KERNELSECRET")]:
        monkeypatch.delenv(name)


def test_where_nothing_is_set_there_is_no_such_mode() -> None:
    assert vault_agent_settings(Settings.load()) is None


def test_address_and_image_are_enough() -> None:
    found = vault_agent_settings(Settings.load(BOTH))
    assert found is not None
    assert (found.address, found.image, found.ca_pem) == ("https://vault.test:8200", "vault:1.21.4", "")
    assert (found.cpu_request, found.memory_request, found.memory_limit) == ("10m", "64Mi", "256Mi")


@pytest.mark.parametrize("lacks", list(BOTH))
def test_one_without_the_other_is_refused_by_its_variable(lacks: str) -> None:
    given = {name: value for name, value in BOTH.items() if name != lacks}
    with pytest.raises(Refused) as refused:
        vault_agent_settings(Settings.load(given))
    assert refused.value.field == f"{PREFIX}{lacks.upper()}"
    assert "set both" in refused.value.fix


def test_certificates_are_read_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(PEM)
    found = vault_agent_settings(Settings.load({**BOTH, "vault_ca_file": str(file)}))
    assert found is not None
    assert found.ca_pem == PEM


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: FileNotFoundError"),
        (b"", "is not PEM of certificates"),
        (b"\xff\xfe", "cannot be read: UnicodeDecodeError"),
        (PEM.encode() * 1000, "of at most 32768 bytes"),
        (PEM.encode() + b"-----BEGIN RSA PRIVATE KEY-----\nsecret\n", "has a private key"),
    ],
    ids=["missing", "empty", "binary", "large", "key"],
)
def test_a_file_that_is_none_of_certificates_is_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Refused) as refused:
        vault_agent_settings(Settings.load({**BOTH, "vault_ca_file": str(file)}))
    assert refused.value.field == f"{PREFIX}VAULT_CA_FILE"
    assert why in refused.value.why
    assert "secret" not in str(refused.value)
