"""What mode `vault-agent` needs to know, from the webhook's settings: the one file among them is read here."""

from __future__ import annotations

from kernelsecret.errors import Code, Refused, said
from webhook.options import PREFIX
from webhook.policy.vault_agent.refusals import MAX_CA
from webhook.policy.vault_agent.settings import VaultAgentSettings
from webhook.settings import Settings

_NEEDED = ("vault_address", "vault_agent_image")


def vault_agent_settings(settings: Settings) -> VaultAgentSettings | None:
    """Where pods in that mode find Vault, and how; None where the mode is not set up.

    Raises Refused that names the variable: where one is set without the others, or the file is none of certificates.
    """
    values = {name: getattr(settings, name) for name in (*_NEEDED, "vault_ca_file", "vault_server_name")}
    given = [name for name, value in values.items() if value]
    if not given:
        return None
    for name in _NEEDED:
        if not values[name]:
            why = f"is not set, and {PREFIX}{given[0].upper()} is"
            raise Refused(Code.INVALID_ARGUMENT, f"{PREFIX}{name.upper()}", why, "set both, or none of them")
    return VaultAgentSettings(
        address=settings.vault_address,
        image=settings.vault_agent_image,
        ca_pem=_certificates(settings),
        server_name=settings.vault_server_name,
        cpu_request=settings.vault_agent_cpu,
        memory_request=settings.vault_agent_memory,
        memory_limit=settings.vault_agent_limit,
    )


def _certificates(settings: Settings) -> str:
    path = settings.vault_ca_file
    if path is None:
        return ""
    variable = f"{PREFIX}VAULT_CA_FILE"
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CA + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = f"{str(path)!r} cannot be read: {said(error)}"
        raise Refused(Code.INVALID_ARGUMENT, variable, why, "mount a file of certificates there") from None
    if "PRIVATE KEY" in text:
        # It is written into pods, where everybody who may see them sees it.
        raise Refused(Code.INVALID_ARGUMENT, variable, f"{str(path)!r} has a private key", "leave only certificates")
    if len(text) > MAX_CA or "-----BEGIN CERTIFICATE-----" not in text:
        why = f"{str(path)!r} is not PEM of certificates, of at most {MAX_CA} bytes"
        raise Refused(Code.INVALID_ARGUMENT, variable, why, "leave only the authority that Vault's certificate is from")
    return text
