"""What mode `vault-agent` needs to know of the installation. Types only, no I/O here."""

from __future__ import annotations

from typing import NamedTuple


class VaultAgentSettings(NamedTuple):
    """Where the agent in the pod finds Vault, and which image it is. There are no defaults: both are set, or the mode is
    not there.

    `address` is a URL; `ca_pem` holds the certificates that Vault is trusted by, empty for those of the image.
    """

    address: str
    image: str
    ca_pem: str = ""
