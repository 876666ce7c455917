"""Token files, the identities they give, and the certificates that dev-certs makes."""

import hashlib
import ssl
import stat
from pathlib import Path

import pytest

from farhand.runtime import dev_certs, security
from farhand.runtime.security import LOCAL, Identity, Role, Tokens
from farhand.runtime.service import StartupError

DIGEST = hashlib.sha256(b"opensesame").hexdigest()


def load(tmp_path: Path, text: str) -> Tokens:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    return Tokens.load(path)


def entry(**given: str) -> str:
    fields = {"name": '"ci"', "role": '"client"', "sha256": f'"{DIGEST}"'} | given
    return "[[token]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value)


def test_a_token_is_known_by_its_hash_alone(tmp_path: Path) -> None:
    tokens = load(tmp_path, entry(tenants='["main", "lab"]'))
    assert tokens.identify("opensesame") == Identity("ci", Role.CLIENT, frozenset({"main", "lab"}), None)
    assert tokens.identify(DIGEST) is None
    assert tokens.identify("opensesame ") is None
    assert tokens.identify("") is None


@pytest.mark.parametrize(("written", "key"), [('"gpu"', "gpu"), ('""', ""), ('"_default"', "")])
def test_a_workers_token_is_for_one_group(tmp_path: Path, written: str, key: str) -> None:
    worker = load(tmp_path, entry(role='"worker"', worker_group=written)).identify("opensesame")
    assert worker is not None
    assert worker.worker_group == key
    assert worker.admits_group(key)
    assert not worker.admits_group("other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"no \[\[token\]\]"),
        ("token = 3", r"no \[\[token\]\]"),
        ("[[token", "not TOML"),
        (entry(name=""), "entry 1: name is missing"),
        (entry(role='"root"'), "entry 1: role must be one of admin, client, worker, service"),
        (entry() + entry(sha256='"abc"'), "entry 2: sha256"),
        (entry(sha256='"opensesame"'), "entry 1: sha256"),
        (entry(tenants='"main"'), "tenants must be a list"),
        (entry(role='"worker"'), "worker_group must be given"),
        (entry(worker_group='"gpu"'), "for no other"),
        (entry(token='"opensesame"'), "unknown key token"),
    ],
)
def test_a_token_file_that_is_wrong_names_the_entry(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartupError, match=said):
        load(tmp_path, text)


def test_a_token_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        Tokens.load(tmp_path / "nothing.toml")


def test_local_may_do_everything_and_others_what_their_role_may() -> None:
    client = Identity("ci", Role.CLIENT, frozenset({"main"}))
    assert all(LOCAL.may({role}) for role in Role)
    assert LOCAL.admits_tenant("any")
    assert LOCAL.admits_group("any")
    assert client.may({Role.ADMIN, Role.CLIENT})
    assert not client.may({Role.ADMIN})
    assert client.admits_tenant("main")
    assert not client.admits_tenant("lab")


def test_nobody_is_taken_for_a_caller_outside_of_a_call() -> None:
    with pytest.raises(LookupError):
        security.identity(None)
    with security.acting_as(LOCAL):
        assert security.identity(None) is LOCAL


def test_dev_certs_makes_private_files_that_fit_together(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    paths = dev_certs.make(folder, ["scheduler", "10.0.0.7"])
    assert {path.name for path in paths} >= {"ca.crt", "server.crt", "server.key", "tokens.toml", "worker-gpu.token"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.crt", folder / "server.key")
    tokens = Tokens.load(folder / "tokens.toml")
    found = {path.stem: tokens.identify(path.read_text().strip()) for path in folder.glob("*.token")}
    assert {name: (caller.role, caller.worker_group) for name, caller in found.items() if caller} == {
        "admin": (Role.ADMIN, None),
        "client": (Role.CLIENT, None),
        "service": (Role.SERVICE, None),
        "worker": (Role.WORKER, ""),
        "worker-gpu": (Role.WORKER, "gpu"),
    }


def test_dev_certs_never_overwrites(tmp_path: Path) -> None:
    dev_certs.make(tmp_path, [])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StartupError, match=r"already has ca\.crt"):
        dev_certs.make(tmp_path, [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_dev_certs_refuses_what_is_no_host(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="neither a host name nor an IP address"):
        dev_certs.make(tmp_path / "certs", ["schédüler"])
    assert not (tmp_path / "certs").exists()
