"""What the head of a request must look like (RFC 9112), told line by line before Twisted sees it.

Twisted answers some of these with a status alone, closes in silence for others, and takes a few that two
servers behind each other could read in two ways. Here each gets a status and a sentence.
"""

import re

MAX_LINE = 16 * 1024  # bytes; it is Twisted that counts them
MAX_LINES = 200
MAX_HEAD = 64 * 1024  # bytes of all lines with their ends

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAME = re.compile(_TOKEN)
_REQUEST = re.compile(rb"(%s) ([!-~]+) HTTP/1\.([01])" % _TOKEN)
_OTHER_VERSION = re.compile(rb"%s [!-~]+ HTTP/[0-9](\.[0-9])?" % _TOKEN)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_LOOKED_AT = (b"host", b"content-length", b"transfer-encoding", b"upgrade")


class BadHead(Exception):
    """A request that is answered with ``status`` and one sentence, and the connection then closed."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Head:
    """The head of the request that is coming in, or that has come last."""

    def __init__(self) -> None:
        self._skipped = False
        self._start()

    def _start(self) -> None:
        self._is_whole = False
        self.method = b""
        self._minor = b"1"
        self._lines = 0
        self._size = 0
        self._fields: dict[bytes, list[bytes]] = {name: [] for name in _LOOKED_AT}

    def add(self, line: bytes) -> bool:
        """One more line, without its end; whether the head is whole with it. Raises ``BadHead``."""
        if self._is_whole:
            self._start()
        if not self._lines and not line and not self._skipped:
            self._skipped = True  # some clients send one too many after a body (RFC 9112, 2.2)
            return False
        self._lines += 1
        self._size += len(line) + 2
        if self._lines > MAX_LINES or self._size > MAX_HEAD:
            raise self.too_large()
        if self._lines == 1:
            self._add_request_line(line)
        elif line:
            self._add_field(line)
        else:
            self._check_host()
            self._check_framing()
            self._is_whole, self._skipped = True, False
        return self._is_whole

    @property
    def opens_socket(self) -> bool:
        """Whether this becomes a websocket. As Daphne decides it."""
        return [value.lower() for value in self._fields[b"upgrade"][:1]] == [b"websocket"]

    def too_large(self) -> BadHead:
        """For a line that is too long, or one too many."""
        if self._is_whole or not self._lines:
            return BadHead(414, f"The first line of this request is longer than {MAX_LINE} bytes.")
        return BadHead(
            431,
            f"The header of this request is too large: {MAX_HEAD} bytes in {MAX_LINES} lines of at most "
            f"{MAX_LINE} bytes are accepted here.",
        )

    def _add_request_line(self, line: bytes) -> None:
        found = _REQUEST.fullmatch(line)
        if found:
            self.method, _, self._minor = found.groups()
        elif _OTHER_VERSION.fullmatch(line):
            raise BadHead(505, "This server speaks HTTP/1.1 and HTTP/1.0 only.")
        else:
            raise BadHead(400, "The first line of this request is not one of HTTP.")

    def _add_field(self, line: bytes) -> None:
        if line[:1] in (b" ", b"\t"):
            raise BadHead(400, "A header continues in a second line, which is not allowed any more.")
        name, colon, value = line.partition(b":")
        # A blank before the colon would hide a header from one of two servers.
        if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise BadHead(400, "A line of this request's header cannot be understood.")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"daphne-root-path":  # with it a client would choose where the site lies
            raise BadHead(400, "The header Daphne-Root-Path is not accepted here.")
        if name.startswith(b"sec-websocket-") and not value.isascii():  # Daphne would fail over it
            raise BadHead(400, "A line of this request's header cannot be understood.")
        if name in self._fields:
            self._fields[name].append(value)

    def _check_host(self) -> None:
        hosts = self._fields[b"host"]
        if len(hosts) > 1:
            raise BadHead(400, "The header Host is given twice.")
        if not hosts and self._minor == b"1":
            raise BadHead(400, "The header Host is missing.")

    def _check_framing(self) -> None:
        """Where a body ends must be said once, and in one way: what two servers read differently hides a
        request from one of them (RFC 9112, 6.3 and 11.2)."""
        lengths, codings = self._fields[b"content-length"], self._fields[b"transfer-encoding"]
        if len(lengths) > 1:
            raise BadHead(400, "The header Content-Length is given twice.")
        if lengths and not _LENGTH.fullmatch(lengths[0]):
            raise BadHead(400, "The header Content-Length must be a number of bytes.")
        if not codings:
            return
        if lengths:
            raise BadHead(400, "Content-Length and Transfer-Encoding exclude each other.")
        if self._minor == b"0":
            raise BadHead(400, "HTTP/1.0 has no Transfer-Encoding.")
        named = [coding.strip().lower() for coding in b",".join(codings).split(b",")]
        if len(codings) > 1 or named.count(b"chunked") > 1 or named[-1] != b"chunked":
            raise BadHead(400, "Transfer-Encoding must be chunked, and say so once.")
        if named != [b"chunked"]:
            raise BadHead(501, "Of all transfer codings only chunked is possible here.")
