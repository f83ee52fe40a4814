"""``python -m benchmarks.bare FOLDER PORT``: the server core, without history, catalogue and log."""

import signal
import sys
import threading

from fileserver.server import FileServer
from fileserver.storage import Storage


def main(folder: str, port: str) -> None:
    with Storage(folder) as storage, FileServer(storage, port=int(port)) as server:
        listener = threading.Thread(target=server.serve_forever)
        listener.start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        server.shutdown(grace=0)
        listener.join()


if __name__ == "__main__":
    # Before any thread, which would get the signal in its place.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
