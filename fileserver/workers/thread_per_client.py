"""Accept, then a thread for this client: the model to read first.

The thread that runs the server accepts and does nothing else, so no client can hold up another. Each client
has a thread to itself, from its first byte to its last. That thread may wait for the peer and for the disk.

To start a thread costs more than to send a small file. So a thread whose client has left rests for a while,
and serves the next one.
"""

import queue
import threading

from fileserver.workers.base import BUSY, Accept, Client, Workers

MAX_RESTING = 64  # threads
REST_SECONDS = 10.0
RESTING = "RestingThread"  # the name of a thread while it has no client
Inbox = queue.SimpleQueue[Client | None]  # of a thread that rests; None: it is not needed any more


class ThreadPerClient(Workers):
    def __init__(self, accept: Accept) -> None:
        super().__init__(accept)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._resting: list[Inbox] = []
        self._is_over = False

    def run(self) -> None:
        try:
            while (client := self.accept()) is not None:
                try:
                    self._give_thread(client)
                except RuntimeError:  # the system has none to give
                    client.refuse(BUSY)
        finally:
            with self._lock:
                self._is_over = True
                for inbox in self._resting:
                    inbox.put(None)

    def join(self) -> None:
        with self._lock:
            left = list(self._threads)
        for thread in left:
            thread.join()

    def _give_thread(self, client: Client) -> None:
        with self._lock:
            if self._resting:
                self._resting.pop().put(client)  # the last to rest: its memory is still in the caches
                return
            thread = threading.Thread(target=self._serve, args=(client,), name=client.thread)
            thread.start()  # under the lock, so that join misses none
            self._threads.add(thread)

    def _serve(self, client: Client | None) -> None:
        """One client after another, in their own thread."""
        me, inbox = threading.current_thread(), Inbox()
        while client is not None:
            me.name = client.thread
            client.serve()
            me.name = RESTING
            client = self._rest(inbox)
        with self._lock:
            self._threads.discard(me)

    def _rest(self, inbox: Inbox) -> Client | None:
        with self._lock:
            if self._is_over or len(self._resting) >= MAX_RESTING:
                return None
            self._resting.append(inbox)
        try:
            return inbox.get(timeout=REST_SECONDS)
        except queue.Empty:
            with self._lock:
                if inbox not in self._resting:
                    return inbox.get()  # a client came at the last moment: it is put in under this lock
                self._resting.remove(inbox)
                return None
