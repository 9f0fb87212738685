"""AdmissionReview v1, in and out. Whatever is sent becomes a review, a denial, or BadReview with a 4xx status. Pure.

Reading is typed and in one pass: what nobody asks for is skipped, and the pod is never copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from msgspec import Raw

from kernelsecret.errors import KernelSecretError
from kernelsecret.problems import from_decoder, quoted

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
MAX_BYTES: Final = 3 << 20
"""The largest review that is read: twice what the API server takes as one object, old and new, and some."""
_MAX_UID: Final = 253

T = TypeVar("T")


class BadReview(KernelSecretError):
    """A body that is no review that could be answered. `status` is the HTTP status, the text what would be right."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class Resource(msgspec.Struct, frozen=True, gc=False):
    """What is written to."""

    group: str = ""
    version: str = ""
    resource: str = ""


class UserInfo(msgspec.Struct, frozen=True, gc=False):
    """Who writes."""

    username: str = ""


class Request(msgspec.Struct, Generic[T], rename="camel", frozen=True, gc=False):
    """The question. `object` is a `Something | None`, or raw; raw ones are empty or `null` where there is none."""

    uid: str = ""
    resource: Resource = Resource()
    sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    operation: str = ""
    user_info: UserInfo = UserInfo()
    object: T = msgspec.field(default=cast(Any, None))
    old_object: Raw = Raw()
    dry_run: bool | None = None

    @property
    def target(self) -> str:
        """What is written to, as rules name it: `pods/binding`, `secretinterceptors.kernelsecret.io`."""
        group, resource = self.resource.group, self.resource.resource
        plain = f"{resource}.{group}" if group else resource
        return f"{plain}/{self.sub_resource}" if self.sub_resource else plain


class Review(msgspec.Struct, Generic[T], rename="camel", frozen=True, gc=False):
    """The envelope."""

    api_version: str = ""
    kind: str = ""
    request: Request[T] | None = None


class _Asked(msgspec.Struct, rename="camel", frozen=True, gc=False):
    uid: str = ""


class _Envelope(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """The least that has to be right for a denial to find its request."""

    api_version: str = ""
    kind: str = ""
    request: _Asked | None = None


class Unfit(KernelSecretError):
    """A review that can be answered, by a denial: the uid is known, the rest makes no sense."""

    def __init__(self, uid: str, code: int, text: str) -> None:
        self.uid = uid
        self.code = code
        super().__init__(text)


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def read(body: bytes, decoder: msgspec.json.Decoder[Review[T]], *, limit: int = MAX_BYTES) -> Request[T]:
    """The request of a review. Raises BadReview where nobody can be answered, Unfit where a denial can be sent."""
    if len(body) > limit:
        raise BadReview(413, f"the body has {len(body)} bytes, at most {limit} are read")
    if not body:
        raise BadReview(400, f"the body is empty; it must be an {KIND} of {API_VERSION}")
    try:
        review = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Unfit(_uid_of(body), 422, str(from_decoder(str(error)))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadReview(400, said_of(error, "the body")) from None
    _check(review.api_version, review.kind, review.request)
    assert review.request is not None
    return review.request


def _uid_of(body: bytes) -> str:
    try:
        found = _ENVELOPE.decode(body)
    except msgspec.ValidationError as error:
        raise BadReview(422, said_of(error, f"not an {KIND}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadReview(400, said_of(error, "the body")) from None
    _check(found.api_version, found.kind, found.request)
    assert found.request is not None
    return found.request.uid


def said_of(error: Exception, what: str) -> str:
    """Why `what` cannot be read, in words that repeat nothing of it but names of fields."""
    if isinstance(error, RecursionError):
        return f"{what} is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"{what} is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return f"{what}: {from_decoder(str(error))}"
    why = str(error).removeprefix("JSON is malformed: ")
    return f"{what} is not JSON: {why[:1].lower()}{why[1:]}"


def _check(api_version: str, kind: str, request: Request[Any] | _Asked | None) -> None:
    if kind != KIND:
        raise BadReview(422, f"kind: {quoted(kind)} is not {KIND}")
    if api_version != API_VERSION:
        fix = (
            f"list v1 in admissionReviewVersions of the webhook configuration; {API_VERSION} is all that is spoken here"
        )
        raise BadReview(422, f"apiVersion: {quoted(api_version)} is not {API_VERSION}; {fix}")
    if request is None:
        raise BadReview(422, "request: missing")
    if not request.uid or len(request.uid) > _MAX_UID:
        raise BadReview(422, "request.uid: missing" if not request.uid else "request.uid: too long")


class _Status(msgspec.Struct, rename="camel", frozen=True, gc=False):
    message: str
    reason: str
    code: int
    status: str = "Failure"


class _Response(msgspec.Struct, rename="camel", frozen=True, gc=False, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    patch: bytes | None = None
    patch_type: str | None = None
    warnings: tuple[str, ...] = ()
    audit_annotations: Mapping[str, str] = {}


class _Answered(msgspec.Struct, rename="camel", frozen=True, gc=False):
    response: _Response
    api_version: str = API_VERSION
    kind: str = KIND


_ENCODE: Final = msgspec.json.Encoder().encode
_REASONS: Final = {400: "BadRequest", 403: "Forbidden", 422: "Invalid"}
_NONE: Final[Mapping[str, str]] = {}


def allowed(
    uid: str, *, patch: bytes | None = None, warnings: Sequence[str] = (), audit: Mapping[str, str] = _NONE
) -> bytes:
    """Yes, with JSON Patch operations as JSON where something is to be changed."""
    kind = None if patch is None else "JSONPatch"
    return _ENCODE(_Answered(_Response(uid, True, None, patch, kind, tuple(warnings), audit)))


def denied(
    uid: str, code: int, message: str, *, warnings: Sequence[str] = (), audit: Mapping[str, str] = _NONE
) -> bytes:
    """No. `code` is the status that the API server gives to whoever asked; `message` is what they read."""
    status = _Status(message, _REASONS.get(code, "Forbidden"), code)
    return _ENCODE(_Answered(_Response(uid, False, status, None, None, tuple(warnings), audit)))
