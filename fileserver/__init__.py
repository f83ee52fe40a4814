"""A file server with one thread for each client, over the line protocol CFS/1.

Standard library only. To follow one client, read ``server`` (it accepts), ``workers/thread_per_client`` (its
thread), ``sessions/session`` (the loop: a line in, the method of that verb, a line out), ``wire/verbs`` (what
a line may say), ``sessions/downloads``, and ``transfers/copying`` (the bytes). ``events`` says what can
happen.

Each part may import only itself and those named before it in this list:
``events``, ``names``, ``pacing``, ``rights``, ``wire``, ``storage``, ``workers``, ``net``, ``limits``,
``transfers``, ``context``, ``sessions``, ``server``;
``client`` speaks the same protocol from the other side.
"""
