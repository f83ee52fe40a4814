"""What the lines of ``WATCH`` add up to: the newest status, and the transfers that have not ended.

Nothing here reads from a socket: whoever has a line passes it in.
"""

from typing import Any

Row = dict[str, Any]


class LiveState:
    """For one thread, or one event loop."""

    def __init__(self) -> None:
        self.status: Row = {}
        self.transfers: dict[int, Row] = {}  # by their ids, in the order in which they were first reported

    def absorb(self, line: Row) -> None:
        """The next line. A ``full`` one tells of all that runs; any other one of what has changed."""
        if line["full"]:
            self.transfers.clear()
        self.transfers.update((row["id"], row) for row in line["transfers"])
        for row in line["ended"]:
            self.transfers.pop(row["id"], None)  # it may have been so short that no line reported it
        self.status = line["status"]
