"""Who calls: roles, static bearer tokens, and the rule for listening beyond loopback.

Until enrolment comes, a caller is known by a bearer token over TLS. The token file
holds only hashes:

    [[token]]
    name = "gpu workers"
    role = "worker"            # admin, client, worker or service
    sha256 = "9f86d081…"       # of the token, hex
    tenants = ["main"]         # clients and workers; left out: all
    worker_group = "gpu"       # workers: the key that the token is for; "_default" for the default group

On loopback without a token file everyone is LOCAL, who may do everything.
"""

import contextlib
import contextvars
import hashlib
import hmac
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from farhand.kernel import names
from farhand.runtime.address import Address
from farhand.runtime.service import StartupError
from farhand.runtime.settings import ListenSettings


class Role(StrEnum):
    """What a caller is."""

    ADMIN = "admin"  # an operator: everything that people do
    CLIENT = "client"  # submits and reads jobs of its tenants
    WORKER = "worker"  # runs jobs of its group
    SERVICE = "service"  # a scheduler that calls the registry


@dataclass(frozen=True)
class Identity:
    """The caller of an RPC."""

    subject: str  # the token's name; empty for LOCAL
    role: Role
    tenants: frozenset[str] | None = None  # None: all
    worker_group: str | None = None  # workers: the key that the credential is for; None: any
    local: bool = False

    def may(self, roles: Collection[Role]) -> bool:
        """Whether it has one of the roles; LOCAL has them all."""
        return self.local or self.role in roles

    def admits_tenant(self, tenant: str) -> bool:
        """Whether it may act for the tenant."""
        return self.tenants is None or tenant in self.tenants

    def admits_group(self, key: str) -> bool:
        """Whether it may work for the group with this key."""
        return self.worker_group is None or key == self.worker_group


LOCAL = Identity(subject="", role=Role.ADMIN, local=True)

_caller: contextvars.ContextVar[Identity] = contextvars.ContextVar("farhand_caller")


def identity(context: object) -> Identity:
    """The caller of the RPC that is being served.

    context is the RPC's ServicerContext. LookupError outside of a server made by
    `make_server`: no handler may take an unknown caller for a known one.
    """
    return _caller.get()


def set_caller(caller: Identity) -> None:
    """Make it the caller of the current task's RPC; for the server's interceptor."""
    _caller.set(caller)


@contextlib.contextmanager
def acting_as(caller: Identity) -> Iterator[None]:
    """Call servicers directly, as this caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


class Tokens:
    """The tokens that a server accepts."""

    def __init__(self, entries: Sequence[tuple[bytes, Identity]]) -> None:
        """entries: the SHA-256 of each token and whom it makes the caller."""
        self._entries = tuple(entries)

    @classmethod
    def load(cls, path: Path) -> "Tokens":
        """From a TOML file; StartupError names the entry that is wrong."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StartupError(f"The token file {path} can't be read: {error.strerror}.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StartupError(f"The token file {path} is not TOML: {error}.") from None
        rows = document.get("token")
        if not isinstance(rows, list) or not rows:
            raise StartupError(f"The token file {path} has no [[token]]; `farhand admin dev-certs` makes one.")
        return cls([_entry(path, number, row) for number, row in enumerate(rows, 1)])

    def identify(self, token: str) -> Identity | None:
        """Whose token it is; None for an unknown one. Takes the same time wherever the token stands."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for known, caller in self._entries:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def check_listen(settings: ListenSettings) -> Address:
    """The address to listen on; StartupError where it lies beyond loopback without TLS and tokens."""
    try:
        address = Address.parse(settings.listen)
    except ValueError as error:
        raise StartupError(f"--listen: {error}") from None
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise StartupError("--tls-cert and --tls-key go together; give both.")
    missing = [
        name
        for name, value in (
            ("--tls-cert", settings.tls_cert),
            ("--tls-key", settings.tls_key),
            ("--tokens", settings.tokens),
        )
        if value is None
    ]
    if missing and not address.loopback:
        raise StartupError(
            f"{address} can be reached from other machines, so it needs TLS and tokens: {', '.join(missing)} "
            "missing. `farhand admin dev-certs FOLDER` makes files to try it with; or listen on 127.0.0.1."
        )
    return address


def _entry(path: Path, number: int, row: Any) -> tuple[bytes, Identity]:
    def wrong(what: str) -> StartupError:
        return StartupError(f"The token file {path}, entry {number}: {what}.")

    if not isinstance(row, dict):
        raise wrong("is not a table")
    unknown = set(row) - {"name", "role", "sha256", "tenants", "worker_group"}
    if unknown:
        raise wrong(f"unknown key {', '.join(sorted(unknown))}")
    if not isinstance(row.get("name"), str) or not row["name"]:
        raise wrong("name is missing")
    try:
        role = Role(row.get("role", ""))
    except ValueError:
        raise wrong(f"role must be one of {', '.join(Role)}") from None
    try:
        digest = bytes.fromhex(row.get("sha256", ""))
    except (ValueError, TypeError):
        digest = b""
    if len(digest) != 32:
        raise wrong("sha256 must be the 64 hexadecimal digits of the token's SHA-256")
    tenants = row.get("tenants")
    if tenants is not None and not (isinstance(tenants, list) and all(isinstance(item, str) for item in tenants)):
        raise wrong("tenants must be a list of names")
    group = row.get("worker_group")
    if (role is Role.WORKER) != isinstance(group, str):
        raise wrong('worker_group must be given for role "worker", and for no other')
    return digest, Identity(
        subject=row["name"],
        role=role,
        tenants=None if tenants is None else frozenset(tenants),
        worker_group=names.group_key(group) if isinstance(group, str) else None,
    )
