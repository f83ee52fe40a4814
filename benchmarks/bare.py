"""``python -m benchmarks.bare FOLDER PORT``: the server core, without history, catalogue and log.

All else is as ``runfileserver`` has it, the worker of ``WORKER_MODEL`` too.
"""

import os
import signal
import sys
import threading

from files_app.hosting.process import prepare_for
from fileserver import workers
from fileserver.limits import Limits, Options
from fileserver.server import FileServer
from fileserver.storage.folder import Storage


def main(folder: str, port: str) -> None:
    prepare_for(Limits().max_clients)
    options = Options(worker=os.environ.get("WORKER_MODEL", workers.DEFAULT))
    with Storage(folder) as storage, FileServer(storage, port=int(port), options=options) as server:
        listener = threading.Thread(target=server.serve_forever)
        listener.start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        server.shutdown(grace=0)
        listener.join()


if __name__ == "__main__":
    # Before any thread, which would get the signal in its place.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
