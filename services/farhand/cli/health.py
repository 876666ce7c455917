"""`farhand admin health`: whether a server answers and serves, for container and load balancer checks.

Speaks grpc.health.v1, whose two messages are written by hand: their package is one of
the servers' only, and a worker's machine has the CLI as well.
"""

from pathlib import Path
from typing import Annotated

import typer

from farhand.cli.failure import CommandFailed
from farhand.cli.session import Session

_CHECK = "/grpc.health.v1.Health/Check"
_REQUEST = b""  # HealthCheckRequest{}: the server as a whole
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


def health(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The server: a registry or a scheduler.")],
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for it.")] = 5.0,
) -> None:
    """Exit 0 if the server at this address serves, 1 if it does not. Needs no token."""
    import grpc

    from farhand.runtime.grpc_channel import make_blocking_channel, remote_error
    from farhand.runtime.service import StartupError
    from farhand.runtime.settings import DialSettings

    ca: Path | None = session.settings.tls_ca
    try:
        with make_blocking_channel(address, DialSettings(tls_ca=ca)) as channel:
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_CHECK)
            answer = check(_REQUEST, timeout=timeout)
    except StartupError as error:
        raise CommandFailed(str(error)) from None
    except grpc.RpcError as error:
        raise CommandFailed(f"The server at {address} does not answer: {remote_error(error).message}") from None
    if answer != _SERVING:
        raise CommandFailed(f"The server at {address} answers, but does not serve now.", "It starts or stops.")
    session.printer.one({"address": address, "status": "SERVING"}, [("address", address), ("status", "SERVING")])
