"""How fast this server is, beside others, measured in one run: ``python -m benchmarks [NAME …]``.

Every ratio is a median of ratios: ours and the others take turns, with the same client, the same files and
the same disk, so that a noisy machine disturbs all of them. What is not installed is left out, with a line.

To read in this order: ``measure`` (turns and ratios), ``result`` (tables and targets), ``load`` with
``load.c`` (the client), ``servers`` and ``peers`` (who is measured), then a module for each family.
"""
