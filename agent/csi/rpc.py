"""Between gRPC and plain coroutines: one handler for each call, and one place where errors become status codes."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from kernelsecret.errors import Code, Refused

MAX_DETAILS = 2048
"""Characters of a status text: it travels in a header, and kubelet copies it into an event."""

LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)

_In = TypeVar("_In", bound=Message)
_Out = TypeVar("_Out", bound=Message)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a caller is told of an exception. `details` never quotes a foreign exception: it could hold a secret."""

    code: Code
    details: str

    @property
    def status(self) -> grpc.StatusCode:
        """The same code in gRPC's type."""
        return grpc.StatusCode[self.code.name]


def failure_of(error: Exception) -> Failure:
    """The one mapping of exceptions to answers."""
    if isinstance(error, Refused):
        return Failure(error.code, _cut(str(error)))
    if isinstance(error, OSError) and error.errno in LIMITS:
        why = f"the agent has met a limit ({errno.errorcode[error.errno]}); kubelet tries again"
        return Failure(Code.RESOURCE_EXHAUSTED, f"node: {why}")
    return Failure(Code.INTERNAL, f"the agent failed with {error_type(error)}; its log and status say more")


def error_type(error: BaseException) -> str:
    """The exception's class, with the name of its errno; nothing of its text."""
    name = type(error).__name__
    number = error.errno if isinstance(error, OSError) else None
    return name if number is None else f"{name} ({errno.errorcode.get(number, number)})"


def unary(request: type[_In], handle: Callable[[_In], Awaitable[_Out]]) -> grpc.RpcMethodHandler[Any, Any]:
    """The gRPC handler of one call: parse, `handle`, serialize. Whatever `handle` raises becomes a status."""

    async def serve(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            message = request.FromString(raw)
        except DecodeError:
            failure = Failure(Code.INVALID_ARGUMENT, f"request: not a {request.DESCRIPTOR.full_name}")
        else:
            try:
                return (await handle(message)).SerializeToString()
            except Exception as error:  # noqa: BLE001 - the edge: nothing but a code and a class name may go on
                failure = failure_of(error)
        await context.abort(failure.status, failure.details)
        raise AssertionError("abort() does not return")

    return grpc.unary_unary_rpc_method_handler(serve)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DETAILS else text[: MAX_DETAILS - 3] + "..."
