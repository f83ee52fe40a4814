"""How fast this server is, beside others, measured in one run: ``python -m benchmarks [NAME …]``.

Every figure is a ratio of medians: ours and a peer's take turns, with the same client, the same bytes and the
same disk, so that a noisy machine disturbs both. A peer that is not installed is left out, with a line.
"""
