"""Which thread serves which client: what every model of that is to the rest of the server."""

from collections.abc import Callable


class Scheduler:
    """The threads beside that of a connection, which tells them what it is about to do: here there are none.

    Where they share something, they are a ``LeaderFollowers``.
    """

    def take_turn(self) -> None:
        """There is something to do, for which its thread need not wait."""

    def before_blocking(self) -> None:
        """From here on its thread may have to wait, for the peer or for the disk."""

    def spin(self, is_ready: Callable[[float], bool]) -> bool:
        """Whether ``is_ready`` within a time so short that it is better spent than told of."""
        return False


ALONE = Scheduler()
