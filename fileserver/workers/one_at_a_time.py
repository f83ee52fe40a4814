"""One thread for all: a client waits until the one before it has left. What happens without threads.

A client that stays (``WATCH``, a page that is open) keeps all others out: the model is there to be compared
with.
"""

import threading

from fileserver.workers.base import Workers


class OneAtATime(Workers):
    def run(self) -> None:
        me = threading.current_thread()
        usual_name = me.name
        while (client := self.accept()) is not None:
            me.name = client.thread
            client.serve()
            me.name = usual_name

    def join(self) -> None:
        """There is no thread but the one that runs."""
