"""Where to look for near matches of a name that was not found, without reading a large table whole."""

from typing import Any

import sqlalchemy as sql

_MOST = 1000


def nearest_first(statement: sql.Select[str], column: sql.ColumnElement[Any], value: str) -> sql.Select[str]:
    """At most 1,000 names, those that begin like the value first."""
    begins_alike = sql.func.lower(sql.func.left(column, 2)) == value[:2].lower().replace("\0", "")
    return statement.order_by(begins_alike.desc(), column).limit(_MOST)
