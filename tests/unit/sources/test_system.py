"""The thin edge: events parsed from bytes, and paths that cannot lead out."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.system import Event, events_of, open_beneath

EVENTS = st.lists(
    st.builds(
        Event,
        st.integers(-1, 2**31 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=20).map(lambda name: name.replace(b"\0", b"x")),
        st.integers(0, 2**32 - 1),
    )
)


@given(EVENTS)
def test_events_are_read_as_the_kernel_writes_them(events: list[Event]) -> None:
    written = b""
    for event in events:
        padded = event.name.ljust(-(-len(event.name) // 16) * 16, b"\0")
        written += struct.pack("=iIII", event.watch, event.mask, event.cookie, len(padded)) + padded
    assert events_of(written) == events


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "sub/../../outside", "absolute", "upward"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"x")
    (inside / "absolute").symlink_to(tmp_path / "outside")
    (inside / "upward").symlink_to("../outside")
    folder = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)) as caught:
            open_beneath(folder, path, os.O_RDONLY, links=True)
    finally:
        os.close(folder)
    assert caught.value.errno == errno.EXDEV
