"""Where things lie in the containers of mode `vault-agent`, and what is called ours. Names only."""

from __future__ import annotations

from typing import Final

from kernelsecret.names import (
    ANNOTATION_VAULT_AGENT,
    ANNOTATION_VAULT_AGENT_INIT,
    ANNOTATION_VAULT_CA,
    CONTAINER_VAULT_AGENT,
    CONTAINER_VAULT_AGENT_INIT,
    GROUP,
)

# Not where the applications have them: by that the agent tells their processes from its own.
FILES: Final = f"/run/{GROUP}/files"
OWN: Final = f"/run/{GROUP}/agent"
SETTINGS_FILE: Final = "agent.json"
SETTINGS_FILE_INIT: Final = "init.json"
CA_FILE: Final = f"{OWN}/ca.crt"
TOKEN_FILE: Final = f"{OWN}/token"

OWN_CONTAINERS: Final = (CONTAINER_VAULT_AGENT_INIT, CONTAINER_VAULT_AGENT)
OWN_ANNOTATIONS: Final = (ANNOTATION_VAULT_AGENT, ANNOTATION_VAULT_AGENT_INIT, ANNOTATION_VAULT_CA)
