"""CFS/1 from the other side, for asyncio: the views and the live feed of the site.

The same shape as ``client``. Flow control is that of asyncio's streams: whoever reads slowly makes the file
server's thread wait, so nothing piles up on the way.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fileserver.client.blocking import CHUNK, PUBLISH_TIMEOUT, TIMEOUT, Incomplete, keep_short
from fileserver.wire.lines import Fields, request_line
from fileserver.wire.replies import parse_bare, parse_reply


class AsyncDownload:
    """A running ``GET``: the fields of its header, and its bytes by asynchronous iteration."""

    def __init__(self, client: "AsyncClient", header: Fields) -> None:
        self._client = client
        self.header = header
        self.id: int = header["id"]
        self.length: int = header["length"]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the content. Raises ``Incomplete``, ``ErrorReply`` if the file changed meanwhile.

        The last piece comes when ``END`` has been read: who passes the pieces on with a promised length has
        said with the last byte that all is well, and could not take it back.
        """
        left, last = self.length, b""
        while left:
            piece = await self._client._read(min(left, CHUNK))
            left -= len(piece)
            if left:
                yield piece
            else:
                last = piece
        await self._client._read_reply()
        if last:
            yield last


class AsyncClient:
    """One connection. Make it with ``connect``; close it when done, in every case."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.upload = ""  # that of the last PUT, with which it can be gone on

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        token: str | None = None,
        limit: int = 4 * CHUNK,
        tls: ssl.SSLContext | None = None,
    ) -> "AsyncClient":
        """Raises ``OSError`` when nobody listens there, or not whom ``tls`` trusts (``ssl.SSLError``).
        A line may have ``limit`` bytes."""
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, limit=limit, ssl=tls)
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
        # To resume a long upload, the server may have to read all that it has of it.
        return parse_reply(await self._read_line(PUBLISH_TIMEOUT if verb == "PUT" else TIMEOUT))

    async def list(self, prefix: str, after: str, limit: int) -> tuple[list[Fields], bool]:
        """Up to ``limit`` files (``LIST``), and whether there are more behind them."""
        head = await self.request("LIST", prefix=prefix, after=after, limit=limit)
        return [parse_bare(await self._read_line()) for _ in range(head["count"])], head["more"]

    async def get(self, name: str, **fields: Any) -> AsyncDownload:
        return AsyncDownload(self, await self.request("GET", name=name, **fields))

    async def put(self, name: str, size: int, source: AsyncIterator[bytes], **fields: Any) -> Fields:
        """Upload from ``source``; the fields of ``END``. ``fields`` are further ones of ``PUT``.

        What is sent are the bytes that are missing, or ``length`` of them; ``Incomplete`` if there are fewer.
        """
        begun = await self.request("PUT", name=name, size=size, **fields)
        self.upload = begun["upload"]
        # Half of what the blocking client has, which hashes meanwhile: here pieces are only passed on.
        keep_short(self._writer.get_extra_info("socket"), 2 * CHUNK)
        most = fields.get("length")
        left = size - begun["offset"] if most is None else min(most, size - begun["offset"])
        # The server may end it at any time, and say why, while the source has nothing for us.
        reply = asyncio.create_task(self._reader.readuntil(b"\n"))
        sending = asyncio.create_task(self._send_body(source, left))
        try:
            await asyncio.wait({reply, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                await asyncio.wait({reply}, timeout=PUBLISH_TIMEOUT)
            if not reply.done():
                raise TimeoutError("The file server does not say how the upload ended.")
            return parse_reply(reply.result()[:-1])
        except asyncio.IncompleteReadError:
            raise Incomplete("The file server closed the connection.") from None
        finally:
            reply.cancel()
            sending.cancel()
            await asyncio.gather(reply, sending, return_exceptions=True)

    async def _send_body(self, source: AsyncIterator[bytes], length: int) -> None:
        left = length
        async for piece in source:
            # Bytes beyond the end would be read as requests.
            self._writer.write(piece[:left])
            left -= min(left, len(piece))
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._writer.drain()
            except ConnectionError:
                return  # the reply tells why, if the server has said it
        if left:
            raise Incomplete(f"The source ended with {left} of {length} bytes missing.")

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

    async def _read_line(self, timeout: float = TIMEOUT) -> bytes:  # noqa: ASYNC109 - it is the wire's own
        try:
            async with asyncio.timeout(timeout):
                line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise Incomplete("The file server closed the connection.") from None
        return line[:-1]
