"""The ``sovereign`` command: one file per command or family below ``commands``, none with logic of its own.

Commands turn words into an operation of the local API and its answer into text. Results go to standard output,
messages and progress to standard error; ``--json`` makes every result, also an error, one JSON document. Nothing
here imports the network stack, because ``sovereign status`` must answer at once; ``up`` and ``join`` load it when
they run.
"""
