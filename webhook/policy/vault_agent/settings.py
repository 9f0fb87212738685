"""What mode `vault-agent` needs to know of the installation. Types only, no I/O here."""

from __future__ import annotations

from typing import NamedTuple


class VaultAgentSettings(NamedTuple):
    """Where the agent in the pod finds Vault, and which image it is. There are no defaults: both are set, or there
    is no such mode.

    `address` is a URL; `ca_pem` holds the certificates that Vault is trusted by, empty for those of the image;
    `server_name` is the name that Vault's certificate is for, empty where the address says it.
    """

    address: str
    image: str
    ca_pem: str = ""
    server_name: str = ""
    cpu_request: str = "10m"
    memory_request: str = "64Mi"
    memory_limit: str = "256Mi"
