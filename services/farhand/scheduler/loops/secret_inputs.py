"""Secret inputs of executions: sealed when one is created, opened for the frame that carries a job to its worker.

A sealed value is bound to its tenant, its execution and its input, so none can be put
into another's place. The key under which all replicas seal stands in the database;
`rotate_key.py` names another.
"""

from collections.abc import Mapping
from hmac import compare_digest
from typing import Any

from asyncpg import Connection

from farhand.kernel.errors import SecretsNeedKey
from farhand.kernel.job_id import execution_id
from farhand.kernel.names import shown
from farhand.runtime.sealing import Keyring, Unreadable
from farhand.scheduler.store.secrets import hold_sealing_key, insert_secrets, read_secrets

UNREADABLE = "SECRET_UNREADABLE"

Opened = dict[int, dict[str, str] | str]
"""By execution: its secrets by the names of their inputs; or, where one can't be opened, why."""


def binding(tenant: str, execution: int, name: str) -> bytes:
    """What a sealed value belongs to. None of the three holds a NUL."""
    return f"secret input\0{tenant}\0{execution}\0{name}".encode()


class SecretInputs:
    """See the module. Without a ring there are no secrets, and who brings one hears what to do."""

    def __init__(self, ring: Keyring | None) -> None:
        self._ring = ring

    async def seal(self, connection: Connection, tenant: str, execution: int, secrets: Mapping[str, str]) -> None:
        """Keep an execution's secrets, by the names of their inputs; inside of the transaction that creates it.
        Raises SecretsNeedKey."""
        if not secrets:
            return
        if self._ring is None:
            raise SecretsNeedKey(
                f"The flow is given secrets ({', '.join(sorted(secrets))}), and this scheduler has no key to encrypt "
                "them with. Whoever runs it makes one (openssl rand -base64 32 > secrets.key; chmod 600 secrets.key) "
                "and starts every scheduler with --secrets-key-file secrets.key, or FARHAND_SECRETS_KEY."
            )
        key_id = await hold_sealing_key(connection, self._ring.first)
        if key_id not in self._ring.ids:
            raise SecretsNeedKey(
                f"Secrets are encrypted under the key {key_id}, which this scheduler was not given: it has "
                f"{', '.join(self._ring.ids)}. Whoever runs it adds the key to its --secrets-key-file (or "
                "FARHAND_SECRETS_KEY) and starts it again."
            )
        sealed = {
            name: self._ring.seal(text, binding(tenant, execution, name), key_id) for name, text in secrets.items()
        }
        await insert_secrets(connection, execution, key_id, sealed)

    async def open(self, connection: Connection, tenants: Mapping[int, str]) -> Opened:
        """The secrets of executions, which are given with their tenants. In a transaction or not."""
        opened: Opened = {}
        for execution, sealed in (await read_secrets(connection, tenants)).items():
            opened[execution] = self._opened(tenants[execution], execution, sealed)
        return opened

    async def of(self, connection: Connection, tenant: str, execution: int) -> dict[str, str]:
        """The secrets of one execution, by name. Raises SecretsNeedKey. In a transaction or not."""
        opened = (await self.open(connection, {execution: tenant})).get(execution, {})
        if isinstance(opened, str):
            raise SecretsNeedKey(opened)
        return opened

    def _opened(self, tenant: str, execution: int, sealed: Mapping[str, bytes]) -> dict[str, str] | str:
        opened: dict[str, str] = {}
        for name, value in sealed.items():
            try:
                if self._ring is None:
                    raise Unreadable("this scheduler has no keys")
                opened[name] = self._ring.open(value, binding(tenant, execution, name))
            except Unreadable as error:
                return unreadable(execution, name, error)
        return opened


NO_SECRETS = SecretInputs(None)
"""For those who create executions and never give any."""


def unreadable(execution: int, name: str, error: Unreadable) -> str:
    """A sentence for people, and what to do."""
    return (
        f"The secret input {shown(name)} of execution {execution_id(execution)} can't be read: {error}. A scheduler "
        "needs every key that secrets are encrypted under in its --secrets-key-file (or FARHAND_SECRETS_KEY)."
    )


def equal(secrets: Mapping[str, str], given: Mapping[str, Any]) -> bool:
    """Whether each secret was given once more as it is; takes the same time wherever they differ."""
    again = {name: value if isinstance(value := given.get(name), str) else "" for name in secrets}
    same = [compare_digest(text.encode(), again[name].encode()) for name, text in secrets.items()]
    return all(same)
