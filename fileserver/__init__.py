"""A file server with one thread for each client, over the line protocol CFS/1.

Standard library only. Read in this order: ``events`` (what happens), ``protocol`` (lines and values),
``session`` (one conversation), ``server`` (many of them). Each module may import only those named before
it in this list:
``events``, ``names``, ``pacing``, ``rights``, ``wire``, ``storage``, ``workers``, ``net``, ``transfers``,
``context``, ``sessions``, ``server``;
``client`` and ``aclient`` speak the same protocol from the other side.
"""
