"""Who names a worker group: the condition that tenants and namespaces share."""

import sqlalchemy as sql


def names_group(table: sql.Table, key: str) -> sql.ColumnElement[bool]:
    """That a row declares the group as its default, or names it in its plugin defaults; not for the default group."""
    in_defaults = [{"values": {"workerGroup": {"key": key}}}]
    return sql.or_(table.c.default_worker_group == key, table.c.plugin_defaults.contains(in_defaults))
