"""Changes of the documented interceptor, which shows `username` and `password` of the secret `payments/db`."""

from __future__ import annotations

from typing import Any

from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import changed
from tests.unit.serving.desk import Desk


def policy(desk: Desk, path: str, value: Any) -> None:
    """The interceptor says this from now on."""
    desk.view.held["interceptor"] = read_interceptor(changed(path, value))


def from_vault(desk: Desk) -> None:
    """Its secret is Vault's, read as the pod."""
    policy(desk, "spec.secrets.0.source", {"vault": {"path": "secret/data/payments/db", "role": "payments"}})


def files(desk: Desk, *files: dict[str, Any]) -> None:
    """It shows these."""
    policy(desk, "spec.secrets.0.files", list(files))
