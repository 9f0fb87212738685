"""The pod's service-account tokens as kubelet hands them over. No I/O here, and no token ever leaves in an error."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kernelsecret.errors import Code, Refused

TOKENS_KEY = "csi.storage.k8s.io/serviceAccount.tokens"
"""In `secrets` with CSIDriver.spec.serviceAccountTokenInSecrets, in `volume_context` without."""

MAX_BYTES = 256 * 1024
MAX_AUDIENCES = 32


class _Token(msgspec.Struct, frozen=True):
    """One audience's token. Its expiry is not kept: kubelet brings a fresh one long before."""

    token: str

    def __repr__(self) -> str:
        return "_Token(...)"


_decoder = msgspec.json.Decoder(dict[str, _Token])


def tokens_of(secrets: Mapping[str, str], volume_context: Mapping[str, str]) -> dict[str, str]:
    """Tokens by audience, empty where the CSIDriver asks for none; raises Refused with the field named.

    Both places at once is refused: kubelet uses one, so the other was written into the pod by its author.
    """
    in_secrets, in_context = TOKENS_KEY in secrets, TOKENS_KEY in volume_context
    if in_secrets and in_context:
        raise _refused(
            f"volume_context[{TOKENS_KEY}]",
            "tokens came in secrets as well",
            "remove this key from the volume's volumeAttributes",
        )
    if in_secrets:
        return _parse(secrets[TOKENS_KEY], f"secrets[{TOKENS_KEY}]")
    if in_context:
        return _parse(volume_context[TOKENS_KEY], f"volume_context[{TOKENS_KEY}]")
    return {}


def _parse(text: str, field: str) -> dict[str, str]:
    if len(text) > MAX_BYTES:
        raise _refused(field, f"longer than {MAX_BYTES} characters")
    decoded = _decoded(text)
    if decoded is None:
        raise _refused(field, 'not JSON of the shape {"<audience>": {"token": "<token>"}}')
    if len(decoded) > MAX_AUDIENCES:
        raise _refused(field, f"tokens for more than {MAX_AUDIENCES} audiences")
    if not all(entry.token for entry in decoded.values()):
        raise _refused(field, "the token of one audience is empty")
    return {audience: entry.token for audience, entry in decoded.items()}


def _decoded(text: str) -> dict[str, _Token] | None:
    """None where it is not what kubelet writes. The parser's own error is dropped here, with the text it may hold."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _refused(field: str, why: str, fix: str = "look at CSIDriver.spec.tokenRequests") -> Refused:
    return Refused(Code.INVALID_ARGUMENT, field, why, fix)
