"""Texts at rest: sealed with AES-256-GCM, under keys that no database holds.

    ring = load_keyring(settings)                       # None: no key was given
    sealed = ring.seal("s3cr3t", b"what it belongs to", ring.first)
    ring.open(sealed, b"what it belongs to")            # raises Unreadable

A key is 32 random bytes, written in Base64 (`openssl rand -base64 32`): one a line in a
file, or in a variable with commas between. Sealed is

    version (1 byte, 1) | key id (8 bytes) | nonce (12 bytes, random) | ciphertext and tag

and everything before the nonce, with what the text belongs to, is authenticated: a
sealed text that was changed, or put into another's place, is Unreadable. A key's id is
the beginning of a hash of it, so a key has the same id wherever it is given. With
random nonces one key is good for 2^32 texts.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from farhand.runtime.service import StartupError
from farhand.runtime.settings import SecretsSettings, flag, variable

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD_BYTES = len(_VERSION) + _ID_BYTES
_HOW = "openssl rand -base64 32 makes one"


class Unreadable(Exception):
    """A sealed text can't be opened; the message says why, for people, and nothing of what is in it."""


class Keyring:
    """Keys by their ids."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: one or more, each of KEY_BYTES."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = {_id_of(key): AESGCM(key) for key in keys}

    @property
    def ids(self) -> Sequence[str]:
        """Of all keys, in their order: 16 hexadecimal digits each."""
        return [id.hex() for id in self._keys]

    @property
    def first(self) -> str:
        """The id of the first."""
        return self.ids[0]

    def seal(self, text: str, belongs_to: bytes, key_id: str) -> bytes:
        """The text, sealed under one of the keys; `belongs_to` must be the same when it is opened."""
        head = _VERSION + bytes.fromhex(key_id)
        nonce = os.urandom(_NONCE_BYTES)
        key = self._keys[head[len(_VERSION) :]]
        return head + nonce + key.encrypt(nonce, text.encode(), head + belongs_to)

    def open(self, sealed: bytes, belongs_to: bytes) -> str:
        """The text. Raises Unreadable."""
        from cryptography.exceptions import InvalidTag

        head, nonce = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        if len(nonce) < _NONCE_BYTES or not head.startswith(_VERSION):
            raise Unreadable("it is damaged: it does not begin as what was sealed here does")
        key = self._keys.get(head[len(_VERSION) :])
        if key is None:
            raise Unreadable(f"it is encrypted under the key {key_id(sealed)}, which is not among the keys given here")
        try:
            return key.decrypt(nonce, sealed[_HEAD_BYTES + _NONCE_BYTES :], head + belongs_to).decode()
        except (InvalidTag, UnicodeDecodeError):
            raise Unreadable("it was changed, or put here from another place") from None


def key_id(sealed: bytes) -> str:
    """The id of the key under which something is sealed."""
    return sealed[len(_VERSION) : _HEAD_BYTES].hex()


def load_keyring(settings: SecretsSettings) -> Keyring | None:
    """The keys that a process was given; None: none. Raises StartupError, which tells a line and never a key."""
    if settings.secrets_key_file is not None:
        if settings.secrets_key is not None:
            raise StartupError(f"Give {flag('secrets_key_file')} or {variable('secrets_key')}, not both.")
        path = settings.secrets_key_file
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise StartupError(f"The file of keys {path} can't be read: {error.strerror}. {_HOW}.") from None
        except UnicodeDecodeError:
            raise StartupError(f"The file of keys {path} is no text. {_HOW}.") from None
        written = [(f"{path}, line {number}", line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        keys = [_read(where, line) for where, line in written if line and not line.startswith("#")]
        if not keys:
            raise StartupError(f"The file of keys {path} holds no key. {_HOW}.")
    elif settings.secrets_key is not None:
        words = [word.strip() for word in settings.secrets_key.split(",")]
        keys = [_read(f"{variable('secrets_key')}, key {number}", word) for number, word in enumerate(words, 1)]
    else:
        return None
    return Keyring(keys)


def keep_key_file(path: Path) -> Path:
    """A file with a key, made where there is none, for this user alone. Raises OSError."""
    fresh = path.with_suffix(".new")
    if not path.exists():
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
        fresh.replace(path)
    return path


def _read(where: str, word: str) -> bytes:
    try:
        key = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise StartupError(f"{where}: this is no key, which is {KEY_BYTES} bytes in Base64. {_HOW}.")
    return key


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"farhand key id\0" + key).digest()[:_ID_BYTES]
