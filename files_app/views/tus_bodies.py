"""The body of one part of an upload by tus, and the checksum that it may come with."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import IO

from django.http import HttpRequest

from files_app.views import tus_headers as tus
from files_app.views.bodies import PIECE, body_of
from files_app.views.temporary import kept_on_disk

IN_MEMORY = 1 << 20  # bytes of a part with a checksum; a longer one waits in a temporary file

Body = AsyncIterator[bytes]


@asynccontextmanager
async def checked_body(request: HttpRequest, length: int) -> AsyncIterator[Body]:
    """The bytes of a part. One with a checksum is gathered first: nothing of a wrong part may be kept."""
    claim = tus.checksum(request)
    if claim is None:
        yield part_of(request, length)
        return
    digest, expected = claim
    part = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115, closed below
    try:
        async for piece in part_of(request, length):
            digest.update(piece)
            with kept_on_disk():
                part.write(piece)
        if digest.digest() != expected:
            raise tus.Refused(460, "The part does not match its checksum; nothing of it was kept.")
        with kept_on_disk():
            part.seek(0)
        yield _pieces(part)
    finally:
        with suppress(OSError):  # on a full disk it tries to write once more, and is removed all the same
            part.close()


def part_of(request: HttpRequest, length: int) -> Body:
    return body_of(request) if length else _nothing()


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
