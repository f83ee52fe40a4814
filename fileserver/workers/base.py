"""Which thread serves which client: what a model of that is to the rest of the server.

A model is made with ``accept``, which waits for a client. It decides which thread calls ``client.serve()``,
and nothing else: limits, sessions and transfers are the same under every model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

BUSY = "The server has no more threads; try again later."


class Scheduler(Protocol):
    """What a fast model is told by the connections of its clients. The plain models need none of it."""

    def take_turn(self) -> None:
        """A request has come: there is work to do, for which this thread need not wait."""

    def before_blocking(self) -> None:
        """From here on this thread may wait, for its peer or for the disk."""

    def spin(self, is_ready: Callable[[float], bool]) -> bool:
        """Whether ``is_ready`` (given seconds) in less time than it costs to wake another thread."""
        ...


class NullScheduler:
    """For threads that share nothing: the system schedules them."""

    def take_turn(self) -> None:
        pass

    def before_blocking(self) -> None:
        pass

    def spin(self, is_ready: Callable[[float], bool]) -> bool:
        return False


class Client(Protocol):
    """A client that was accepted: it is served in the thread that calls ``serve``, from its first byte to
    its last."""

    thread: str  # the name that its thread has meanwhile

    def serve(self) -> None:
        """Return when the connection is closed. Raises nothing."""

    def refuse(self, reason: str) -> None:
        """Close the connection with a sentence."""

    def announce_to(self, scheduler: Scheduler) -> None:
        """Tell ``scheduler`` what this client's thread is about to do. To be called before ``serve``."""


# Waits for the next client; ``None``: none will come any more. For any thread.
Accept = Callable[[], Client | None]


class Workers(ABC):
    """One model. ``run`` once, then ``join`` as often as you like."""

    def __init__(self, accept: Accept) -> None:
        self.accept = accept

    def before_blocking(self) -> None:  # noqa: B027
        """Called by a client's thread that may wait for the disk. The plain models need none of it."""

    @abstractmethod
    def run(self) -> None:
        """Serve clients until none will come any more; some may still be served then."""

    @abstractmethod
    def join(self) -> None:
        """Return when no client is served any more and no thread is left."""
