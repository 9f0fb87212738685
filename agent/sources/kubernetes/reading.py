"""The two questions that are asked about a Secret: what it is now, and when it changes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.sources.kubernetes.place import Place
from agent.sources.kubernetes.secret import MAX_ANSWER, MAX_NOTICE, Notice, Read, WatchEnded, read_notice, read_secret
from agent.sources.kubernetes.shared import Shared
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.objects import Lines, Unreadable
from kernelsecret.errors import Refused

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""The form of a watch that has no value in it."""
GET_S = 5.0
WATCH_S = 240.0
"""A watch is opened anew after so long, or up to a quarter more: only then is its right looked at again."""
SILENCE_S = 330.0
"""More than a watch lasts: it says nothing where nothing changes. A connection whose other end is gone is found out by
the kernel's own probes, and by reading from time to time."""


class Reading:
    """One Secret as one account reads it."""

    def __init__(self, client: ApiClient, place: Place, shared: Shared) -> None:
        self.place = place
        self._client = client
        self._shared = shared

    async def get(self) -> Read:
        """The Secret as it is now. Raises Refused: a SecretError, or what there is to say of the reader's token."""
        try:
            read = await self._get()
        except Refused as refused:
            self._shared.failed(refused)
            raise
        self._shared.answered()
        return read

    async def _get(self) -> Read:
        async with self._shared.reads:
            try:
                answer = await self._client.get(
                    paths.secret(self.place.namespace, self.place.name), timeout_s=GET_S, max_bytes=MAX_ANSWER
                )
            except ApiError as error:
                raise self.place.refused(error) from None
        return read_secret(self.place, answer)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Notice]]:
        """Notices of changes from now on; of several that come together only the last. Ends when the server's time is
        over. Raises WatchEnded where it breaks off, and Refused where it cannot be had.
        """
        query = {
            "watch": "true",
            # From any moment that the server has at hand, which is at once: it is read when the watch is open, so what
            # came before does not matter. Bookmarks, or the most recent moment, would ask more of its etcd.
            "resourceVersion": "0",
            **paths.only(self.place.name),
            "timeoutSeconds": str(int(WATCH_S * (1 + random.random() / 4))),  # noqa: S311 - so that not all end at once
        }
        path = paths.secrets(self.place.namespace)
        opened = False
        try:
            async with self._client.stream(path, query, silence_s=SILENCE_S, accept=METADATA) as chunks:
                opened = True
                yield _notices(chunks)
        except ApiError as error:
            if opened:
                raise WatchEnded(error.reason) from None
            raise self.place.refused(error, "watch") from None
        except Unreadable:
            raise WatchEnded("a line that is too long") from None


async def _notices(chunks: AsyncIterator[bytes]) -> AsyncIterator[Notice]:
    lines = Lines(MAX_NOTICE)
    async for chunk in chunks:
        last: Notice | None = None
        for line in lines.feed(chunk):
            notice = read_notice(line)
            if notice.is_news:
                last = notice
        if last is not None:
            yield last
