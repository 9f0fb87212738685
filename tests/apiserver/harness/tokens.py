"""Tokens of service accounts that the API server did not issue: signed anew, by its own key or by another."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.apiserver.harness.cluster import Cluster

Claims = dict[str, Any]


def claims_in(token: str) -> Claims:
    """What a token says."""
    made: Claims = json.loads(_decoded(token.split(".")[1]))
    return made


def signed(cluster: Cluster, like: str, claims: Mapping[str, Any], *, forged: bool = False) -> str:
    """A token with these claims and the header of another one, signed by the cluster's own key, or by a forger's."""
    pem = cluster.certificates.account_key().read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    if forged:
        key = ec.generate_private_key(ec.SECP256R1())
    said = f"{like.split('.')[0]}.{_encoded(json.dumps(claims).encode())}"
    parts = decode_dss_signature(key.sign(said.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{said}.{_encoded(b''.join(part.to_bytes(32, 'big') for part in parts))}"


def unsigned(claims: Mapping[str, Any]) -> str:
    """A token that says that it needs no signature."""
    head = b'{"alg":"none","typ":"JWT"}'
    return f"{_encoded(head)}.{_encoded(json.dumps(claims).encode())}."


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
