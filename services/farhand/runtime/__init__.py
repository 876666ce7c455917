"""The shell that every process shares: settings, lifecycle, logs, traces, gRPC on both sides, the database.

Services import from here; nothing here imports a service. Modules that need the
server's extra (SQLAlchemy, asyncpg, cryptography, health checking) say so in
their first lines: a worker and the CLI never import those.
"""

import os

# gRPC's C core writes its own lines to stderr (each peer that goes away, each failed
# handshake), in the middle of JSON logs and of what the CLI shows. All of it reaches us
# as statuses too. It reads this when it is loaded, so it is set before anything can load it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
