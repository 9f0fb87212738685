"""Which Secret a reference means, and what people are told where it cannot be read."""

from __future__ import annotations

import pytest

from agent.model import SecretRef
from agent.sources.kubernetes.place import Kind, place_of
from apiclient.errors import ApiError
from kernelsecret.errors import Code, Refused

AGENT = "kernelsecret-system/kernelsecret-agent"


def test_a_reference_names_the_secret_and_the_account_that_reads_it() -> None:
    place = place_of(SecretRef("kubernetes", "payments/db.v2", "payments/api"), AGENT)
    assert (place.namespace, place.name, place.account) == ("payments", "db.v2", "payments/api")
    assert place_of(SecretRef("kubernetes", "payments/db"), AGENT).account == AGENT


@pytest.mark.parametrize(
    ("source", "path", "reader"),
    [
        ("file", "payments/db", ""),
        ("kubernetes", "payments", ""),
        ("kubernetes", "payments/db/password", ""),
        ("kubernetes", "payments/../other", ""),
        ("kubernetes", "payments/db?x=y", ""),
        ("kubernetes", "pay.ments/db", ""),
        ("kubernetes", "payments/db\n", ""),
        ("kubernetes", "/db", ""),
        ("kubernetes", "payments/db", "shop/api"),
        ("kubernetes", "payments/db", "api"),
        ("kubernetes", "payments/db", "payments/api/x"),
    ],
)
def test_what_nobody_plans_is_refused_above_all_an_account_of_another_namespace(
    source: str, path: str, reader: str
) -> None:
    with pytest.raises(Refused) as caught:
        place_of(SecretRef(source, path, reader), AGENT)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_denial_names_verb_secret_namespace_and_account_and_the_role_to_write() -> None:
    place = place_of(SecretRef("kubernetes", "payments/db", "payments/api"), AGENT)
    assert str(place.refused(ApiError("GET x", 403, "Forbidden"))) == (
        "kubernetes:payments/db as payments/api: the service account payments/api may not get the Secret db in the"
        " namespace payments (403); kubectl -n payments create role read-db --verb=get,watch --resource=secrets"
        " --resource-name=db; kubectl -n payments create rolebinding read-db --role=read-db"
        " --serviceaccount=payments:api"
    )
    by_agent = place_of(SecretRef("kubernetes", "payments/db"), AGENT)
    assert "--serviceaccount=kernelsecret-system:kernelsecret-agent" in str(by_agent.refused(ApiError("GET x", 403)))


@pytest.mark.parametrize(
    ("error", "kind", "code", "words"),
    [
        (ApiError("x", 401), Kind.NOT_AUTHENTICATED, Code.UNAVAILABLE, "does not accept the token of"),
        (ApiError("x", 403), Kind.DENIED, Code.PERMISSION_DENIED, "may not watch"),
        (ApiError("x", 404), Kind.NOT_FOUND, Code.NOT_FOUND, "there is no Secret db in the namespace payments"),
        (ApiError("x", 410), Kind.BAD_ANSWER, Code.ABORTED, "answered 410"),
        (ApiError("x", 429, retry_after_s=2.0), Kind.THROTTLED, Code.UNAVAILABLE, "answered 429"),
        (ApiError("x", 500), Kind.UNAVAILABLE, Code.UNAVAILABLE, "answered 500"),
        (ApiError("x", 503), Kind.UNAVAILABLE, Code.UNAVAILABLE, "answered 503"),
        (ApiError("x", 302), Kind.BAD_ANSWER, Code.FAILED_PRECONDITION, "answered 302"),
        (ApiError("x", 0, "Timeout"), Kind.TIMEOUT, Code.UNAVAILABLE, "Timeout"),
        (ApiError("x", 0, "Unreachable"), Kind.UNAVAILABLE, Code.UNAVAILABLE, "see whether the API server runs"),
        (ApiError("x", 0, "CertificateNotTrusted"), Kind.TLS, Code.UNAVAILABLE, "not signed by the CA"),
        (ApiError("x", 0, "AnswerTooLarge"), Kind.BAD_ANSWER, Code.UNAVAILABLE, "AnswerTooLarge"),
    ],
)
def test_each_trouble_has_a_kind_and_words_of_its_own(error: ApiError, kind: Kind, code: Code, words: str) -> None:
    place = place_of(SecretRef("kubernetes", "payments/db", "payments/api"), AGENT)
    refused = place.refused(error, "watch")
    assert (refused.kind, refused.code, refused.field) == (kind, code, "kubernetes:payments/db as payments/api")
    assert words in str(refused)
    assert refused.retry_after_s == (error.retry_after_s or 0.0)
