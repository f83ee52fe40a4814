"""How many clients may come in the same moment."""

import socket
import struct
import sys
from pathlib import Path

import pytest

from fileserver.net.listener import BACKLOG, MAX_BACKLOG, listen

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")  # the most that the system allows
TCP_INFO_OF_LISTENER = "8x16xII"  # struct tcp_info: clients that wait to be accepted, and the most of them


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the length of its queue")
@pytest.mark.parametrize(
    ("max_clients", "wanted"), [(1, BACKLOG), (BACKLOG, BACKLOG), (3000, 3000), (1 << 40, MAX_BACKLOG)]
)
def test_as_many_may_come_at_once_as_may_be_there(max_clients: int, wanted: int) -> None:
    with listen("127.0.0.1", 0, max_clients) as listener:
        size = struct.calcsize(TCP_INFO_OF_LISTENER)
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        _, most = struct.unpack(TCP_INFO_OF_LISTENER, info)
    assert most == min(wanted, int(SOMAXCONN.read_text()))
