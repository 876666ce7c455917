"""The shell that every process shares: settings, lifecycle, logs, traces, gRPC on both sides, the database.

Services import from here; nothing here imports a service. Modules that need the
server's extra (SQLAlchemy, asyncpg, cryptography, health checking) say so in
their first lines: a worker and the CLI never import those.
"""
