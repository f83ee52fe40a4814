"""CFS/1 from the other side, for asyncio: the views and the live feed of the site.

The same shape as ``client``. Flow control is that of asyncio's streams: whoever reads slowly makes the file
server's thread wait, so nothing piles up on the way.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fileserver.client import CHUNK, TIMEOUT, Incomplete
from fileserver.protocol import Fields, parse_bare, parse_reply, request_line


class AsyncDownload:
    """A running ``GET``: the fields of its header, and its bytes by asynchronous iteration."""

    def __init__(self, client: "AsyncClient", header: Fields) -> None:
        self._client = client
        self.header = header
        self.id: int = header["id"]
        self.length: int = header["length"]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the content. Raises ``Incomplete``, ``ErrorReply`` if the file changed meanwhile."""
        left = self.length
        while left:
            piece = await self._client._read(min(left, CHUNK))
            left -= len(piece)
            yield piece
        await self._client._read_reply()


class AsyncClient:
    """One connection. Make it with ``connect``; close it when done, in every case."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int, *, token: str | None = None) -> "AsyncClient":
        """Raises ``OSError`` when nobody listens there."""
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, limit=4 * CHUNK)
        client = cls(reader, writer)
        if token is not None:
            try:
                await client.request("AUTH", token=token)
            except BaseException:
                client.close()
                raise
        return client

    def close(self) -> None:
        """Cut the connection at once. Nothing is awaited, so a cancelled view can call it in ``finally``."""
        self._writer.transport.abort()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # --- requests

    async def request(self, verb: str, **fields: Any) -> Fields:
        """Send one request and read its ``OK``; fields that are ``None`` are left out."""
        given = {key: value for key, value in fields.items() if value is not None}
        self._writer.write(request_line(verb, **given))
        return await self._read_reply()

    async def get(self, name: str, **fields: Any) -> AsyncDownload:
        return AsyncDownload(self, await self.request("GET", name=name, **fields))

    async def put(self, name: str, size: int, source: AsyncIterator[bytes], **fields: Any) -> Fields:
        """Upload ``size`` bytes of ``source``; the fields of ``END``. ``Incomplete`` if it has fewer."""
        await self.request("PUT", name=name, size=size, **fields)
        left = size
        try:
            async for piece in source:
                # Bytes beyond the size would be read as requests.
                self._writer.write(piece[:left])
                left -= min(left, len(piece))
                async with asyncio.timeout(TIMEOUT):
                    await self._writer.drain()
            if left:
                raise Incomplete(f"The source ended with {left} of {size} bytes missing.")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may have said why before it closed: read it
        return await self._read_reply()

    async def watch(self) -> AsyncGenerator[Fields, None]:
        """Event lines, without end. Nothing else can be asked on this connection afterwards."""
        await self.request("WATCH")
        while True:
            line = await self._read_line()
            if line.startswith(b"ERR "):
                parse_reply(line)
            yield parse_bare(line)

    # --- the wire: not with ``wait_for``, which before Python 3.12 forgets a cancel that comes with the bytes

    async def _read(self, most: int) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            data = await self._reader.read(most)
        if not data:
            raise Incomplete("The file server closed the connection before the last byte.")
        return data

    async def _read_reply(self) -> Fields:
        return parse_reply(await self._read_line())

    async def _read_line(self) -> bytes:
        try:
            async with asyncio.timeout(TIMEOUT):
                line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise Incomplete("The file server closed the connection.") from None
        return line[:-1]
