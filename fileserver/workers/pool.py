"""A fixed number of threads, and a bounded queue for clients who wait for one.

As many clients are served at once as there are threads. The next ones wait in the queue; when it is full, the
server accepts nobody, and the system keeps the rest in the backlog of the listener.
"""

import queue
import threading

from fileserver.workers.base import BUSY, Accept, Client, Workers

THREADS = 32
MAX_WAITING = 64  # clients
IDLE = "PoolThread"  # the name of a thread while it has no client


class Pool(Workers):
    def __init__(self, accept: Accept) -> None:
        super().__init__(accept)
        self._waiting: queue.Queue[Client | None] = queue.Queue(MAX_WAITING)
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        try:
            while (client := self.accept()) is not None:
                if len(self._threads) < THREADS and not self._start_thread() and not self._threads:
                    client.refuse(BUSY)
                else:
                    self._waiting.put(client)
        finally:
            for _ in self._threads:
                self._waiting.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._serve, name=IDLE)
        try:
            thread.start()
        except RuntimeError:  # the system has none to give
            return False
        self._threads.append(thread)
        return True

    def _serve(self) -> None:
        me = threading.current_thread()
        while (client := self._waiting.get()) is not None:
            me.name = client.thread
            client.serve()
            me.name = IDLE
