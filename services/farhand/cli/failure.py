"""How a command fails: what is printed, and the exit code. No traceback ever reaches a user.

Exit codes: 0 success, 1 the asked-for thing failed, 2 wrong use; `farhand run` adds the
command's own (`exit_code.py`).
"""

from typing import TYPE_CHECKING

from farhand.cli.terminal import plain

if TYPE_CHECKING:
    import grpc

_LONGEST = 2000  # characters of one line that somebody else wrote
_MOST_LINES = 20  # an error fits on a screen


class CommandFailed(Exception):
    """The asked-for thing failed. `details` are further lines: violations, and what to do. `reason`: the server's
    own (protos/README.md), where it was the server that refused."""

    exit_code = 1

    def __init__(self, message: str, *details: str, exit_code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.reason = reason
        if exit_code is not None:
            self.exit_code = exit_code

    def lines(self) -> list[str]:
        """What goes to stderr, safe for a terminal and never more than a screen."""
        texts = [line for text in (self.message, *self.details) for line in text.splitlines()]
        head, *rest = [_cut(plain(line)) for line in texts] or ["failed"]
        lines = [f"farhand: {head}", *(f"  {line}" for line in rest)]
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 1], f"  … and {len(lines) - _MOST_LINES + 1} more lines"]
        return lines


class WrongUse(CommandFailed):
    """The command line, the environment or a profile says something that can't be."""

    exit_code = 2


class Unreachable(CommandFailed):
    """No answer from a server; trying the same later may help."""


def remote_failure(error: "grpc.RpcError", server: str, address: str) -> CommandFailed:
    """The failure for an error that a call brought. `server` is "registry" or "scheduler", as its flag is named."""
    import grpc

    from farhand.runtime.grpc_channel import remote_error

    remote = remote_error(error)
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE and not remote.reason:
        why = _why(remote.message)
        advice = () if "TLS" in why or "certificate" in why else _advice(server)
        return Unreachable(f"The {server} at {address} can't be reached: {why}", *advice)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not remote.reason:
        return Unreachable(f"The {server} at {address} did not answer in time.", "Try again, or look at its log.")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return CommandFailed(
            f"The {server} at {address} does not know this call.",
            f"Is it a {server}, and of this version? --{server} HOST:PORT names another.",
        )
    details = [f"{v.path}: {v.description}" if v.path else v.description for v in remote.violations]
    if code is grpc.StatusCode.UNAUTHENTICATED:
        details.append("Give a token by --token-file FILE, FARHAND_TOKEN_FILE, FARHAND_TOKEN or a profile.")
    if code is grpc.StatusCode.ABORTED and remote.reason == "ETAG_MISMATCH":
        details.append("Read it again, and repeat the change with its new etag if it still applies.")
    if code is grpc.StatusCode.INTERNAL and not remote.reason:
        return CommandFailed(f"The {server} at {address} broke off: {remote.message}", *details)
    message = remote.message or f"The {server} refused: {code.name}"
    return CommandFailed(_without_violations(message, details), *details, reason=remote.reason)


def _without_violations(message: str, details: list[str]) -> str:
    """A message that only repeats its violations becomes a heading for them."""
    return "The request is not valid." if details and message == "; ".join(details) else message


def _why(details: str) -> str:
    """gRPC's word for a failed connection, made short."""
    for known, words in (
        ("Connection refused", "nothing listens there (connection refused)."),
        ("Connection reset", "the connection was reset; does it speak TLS (--tls-ca)?"),
        ("Hostname Verification", "its certificate is for another host name."),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the authority of --tls-ca."),
        ("SSL_ERROR", "the TLS handshake failed; is TLS on at both ends (--tls-ca)?"),
        ("Handshake", "the TLS handshake failed; is TLS on at both ends (--tls-ca)?"),
        ("resolv", "its name is not known."),
        ("DNS", "its name is not known."),
        ("Timeout", "no answer (connection timed out)."),
        ("FD Shutdown", "no answer (connection timed out)."),
        ("Socket closed", "it closed the connection; does it speak TLS (--tls-ca)?"),
    ):
        if known.casefold() in details.casefold():
            return words
    return details or "no reason given."


def _advice(server: str) -> tuple[str, ...]:
    return (
        "Is it running? `farhand server standalone` starts everything on this machine.",
        f"Is it elsewhere? Say where by --{server} HOST:PORT, FARHAND_{server.upper()} or a profile.",
    )


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
