"""Etags (AIP-154): the revision of a resource's last change.

Revisions are never used twice, so a resource that was removed and made again has
another etag too.
"""

from farhand.kernel.errors import EtagMismatch


def etag(revision: int) -> str:
    """The etag of a resource that last changed at this revision."""
    return f"r{revision}"


def check_etag(given: str, thing: str, *revisions: int | None) -> None:
    """Raises EtagMismatch unless the given etag is empty or that of one of the revisions.

    ``thing`` names the resource in the message: "tenant 'main'".
    """
    if given and given not in {etag(revision) for revision in revisions if revision is not None}:
        raise EtagMismatch(f"The {thing} has changed since you read it. Read it again and repeat your change.")
