"""``python benchmarks/textbook.py FOLDER PORT``: the shortest server with a thread for each client.

It says what a client is sent by ours, and does nothing else of it: any name is opened, nothing is checked,
counted, limited, shown, cancelled or written down. What it needs for a small file is the price of Python, of
threads and of the system; what ours takes more, or less, is our own doing.
"""

import os
import socket
import sys
import threading


def serve(client: socket.socket, folder: int) -> None:
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while line := client.recv(8192):
            name = line.removeprefix(b"GET ").rstrip()
            fd = os.open(name, os.O_RDONLY, dir_fd=folder)
            content = os.read(fd, os.fstat(fd).st_size)
            os.close(fd)
            size = len(content)
            client.sendall(
                b'OK {"id": 1, "length": %d}\n%bEND {"id": 1, "sent": %d}\n' % (size, content, size)
            )


def main(path: str, port: str) -> None:
    folder = os.open(path, os.O_RDONLY)
    with socket.create_server(("127.0.0.1", int(port)), backlog=1024) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, folder)).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
