"""Texts at rest: what opens them, and what does not."""

import base64
from pathlib import Path

import pytest

from farhand.runtime.sealing import Keyring, Unreadable, keep_key_file, key_id, load_keyring
from farhand.runtime.service import StartupError
from farhand.runtime.settings import SecretsSettings

OLD, NEW = b"o" * 32, b"n" * 32
MINE = b"tenant, execution, input"


def written(*keys: bytes) -> str:
    return "\n".join(base64.b64encode(key).decode() for key in keys)


def test_what_was_sealed_is_opened_by_any_ring_that_has_the_key() -> None:
    ring = Keyring([OLD])
    sealed = ring.seal("naïve 🔑", MINE, ring.first)
    assert "naïve".encode() not in sealed
    assert key_id(sealed) == ring.first
    assert Keyring([NEW, OLD]).open(sealed, MINE) == "naïve 🔑"
    assert ring.seal("naïve 🔑", MINE, ring.first) != sealed, "the nonce is new each time"


def test_each_key_seals_under_its_own_id() -> None:
    ring = Keyring([NEW, OLD])
    assert ring.first == Keyring([NEW]).first
    assert [key_id(ring.seal("text", MINE, id)) for id in ring.ids] == list(ring.ids)


def test_no_change_of_a_single_byte_goes_unnoticed() -> None:
    ring = Keyring([OLD])
    sealed = ring.seal("text", MINE, ring.first)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unreadable):
            ring.open(bytes(changed), MINE)
    for short in range(len(sealed)):
        with pytest.raises(Unreadable):
            ring.open(sealed[:short], MINE)


def test_what_was_put_into_anothers_place_is_not_opened() -> None:
    ring = Keyring([OLD])
    with pytest.raises(Unreadable, match="changed, or put here from another place"):
        ring.open(ring.seal("text", MINE, ring.first), b"tenant, another execution, input")


def test_a_key_that_is_not_there_is_named() -> None:
    sealed = Keyring([OLD]).seal("text", MINE, Keyring([OLD]).first)
    with pytest.raises(Unreadable, match=f"under the key {Keyring([OLD]).first}, which is not among"):
        Keyring([NEW]).open(sealed, MINE)


def test_keys_come_from_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the new one\n{written(NEW)}\n\n  {written(OLD)}  \n")
    from_file = load_keyring(SecretsSettings(secrets_key_file=file))
    from_variable = load_keyring(SecretsSettings(secrets_key=written(NEW, OLD).replace("\n", ", ")))
    assert from_file is not None and from_variable is not None
    assert from_file.ids == from_variable.ids == Keyring([NEW, OLD]).ids
    assert load_keyring(SecretsSettings()) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("c2hvcnQ=\n", "line 1: this is no key"),
        (written(OLD) + "\nnot base64!\n", "line 2: this is no key"),
        (None, "can't be read: No such file"),
    ],
)
def test_what_is_no_key_is_told_by_its_line_and_never_shown(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartupError) as told:
        load_keyring(SecretsSettings(secrets_key_file=file))
    assert said in str(told.value) and "openssl rand -base64 32" in str(told.value)
    assert "c2hvcnQ" not in str(told.value) and "not base64!" not in str(told.value)


def test_two_sources_of_keys_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="not both"):
        load_keyring(SecretsSettings(secrets_key_file=tmp_path / "keys", secrets_key=written(OLD)))


def test_a_key_file_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    file = keep_key_file(tmp_path / "secrets.key")
    first = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert keep_key_file(file).read_text() == first
    assert load_keyring(SecretsSettings(secrets_key_file=file)) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.key"]
