"""The `farhand` command: a client of the registry and the scheduler, over gRPC alone.

One file per noun (`worker_group.py`, `job.py`, …) holds that noun's commands; `root.py`
lists them and imports a noun's file only when it is called. A noun's file imports typer
and the standard library at its top, and everything that is slow (grpc, the generated
stubs, asyncio, rich's tables) inside the functions that need it: `--help` answers at once.
"""
