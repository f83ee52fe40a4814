"""What a client sends and has to wait in a temporary file, when there is no room for it."""

from collections.abc import Iterator
from contextlib import contextmanager


class NoRoom(Exception):
    """The text is a sentence for the client and for the log. HTTP: 507."""

    def __init__(self, error: OSError) -> None:
        reason = error.strerror or "it cannot be written"
        super().__init__(f"The server cannot keep this request in its temporary folder: {reason}.")


@contextmanager
def kept_on_disk(failure: type[NoRoom] = NoRoom) -> Iterator[None]:
    """Around what writes a temporary file, and nothing else: raises ``NoRoom`` for an ``OSError``."""
    try:
        yield
    except OSError as error:
        raise failure(error) from error
