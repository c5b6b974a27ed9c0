"""AGI servers, ours and the peers', whose calls send the same command for ever; and an SMSC.

Each module is run by `python -m` and prints the port that it listens on. AGI servers have a core
of their own.
"""

LINE = "3230"  # the number that every call dials
NAME, VALUE = "SVI_NEXT", "adviser"  # the variable that every call sets
BACKLOG = 1024  # as our own server's
