"""Which versions of the worker protocol work together (design.md, the worker stream, rule 1).

Each side speaks its own version and the one before it. So two that are at most one
version apart agree on the lower, whichever of them is upgraded first, and a mesh
is upgraded one process after the other. Versions begin at 1.
"""

PROTOCOL_VERSION = 1  # that this release speaks


def agree(mine: int, theirs: int) -> int | None:
    """The version that two sides use who speak these; None where they are too far apart."""
    if mine < 1 or theirs < 1 or abs(mine - theirs) > 1:
        return None
    return min(mine, theirs)
