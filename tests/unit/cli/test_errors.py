"""What goes wrong is said in a few lines, with what to do, and never with a traceback."""

from pathlib import Path

import grpc
import pytest

from farhand.cli.failure import CommandFailed
from farhand.kernel.errors import EtagMismatch, InvalidArgument, TenantNotAllowed, Unauthenticated, Violation
from farhand.kernel.names import not_found
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers


@pytest.mark.parametrize("server", ["registry", "scheduler"])
def test_a_server_that_is_not_there_is_named_with_what_to_do(
    farhand: Farhand, unused_address: str, server: str
) -> None:
    noun = ("tenant", "list") if server == "registry" else ("job", "list")
    result = farhand(*noun, f"--{server}", unused_address)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"farhand: The {server} at {unused_address} can't be reached: nothing listens there (connection refused).\n"
        "  Is it running? `farhand server standalone` starts everything on this machine.\n"
        f"  Is it elsewhere? Say where by --{server} HOST:PORT, FARHAND_{server.upper()} or a profile.\n"
    )


def test_near_matches_reach_the_user(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetWorkerGroup"] = not_found("worker group", "gpuu", ["gpu", "edge"])
    result = farhand("worker-group", "get", "gpuu")
    assert (result.code, result.err) == (1, "farhand: There is no worker group 'gpuu'. Did you mean 'gpu'?\n")


def test_violations_are_listed_with_their_paths(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["CreateWorkerGroup"] = InvalidArgument.of(
        Violation("worker_group.key", "must not be empty"), Violation("worker_group.lease", "is too short")
    )
    result = farhand("worker-group", "create", "")
    assert result.code == 1
    assert result.err == (
        "farhand: The request is not valid.\n"
        "  worker_group.key: must not be empty\n"
        "  worker_group.lease: is too short\n"
    )


def test_a_refusal_says_what_the_server_said(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetJob"] = TenantNotAllowed("Worker group 'gpu' is not for tenant 'main'.")
    result = farhand("job", "get", "x")
    assert (result.code, result.err) == (1, "farhand: Worker group 'gpu' is not for tenant 'main'.\n")


def test_a_missing_token_and_a_stale_etag_come_with_advice(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetTenant"] = Unauthenticated("No token.")
    assert "--token-file" in farhand("tenant", "get", "main").err
    servers.on["UpdateTenant"] = EtagMismatch("It changed.")
    assert "Read it again" in farhand("tenant", "update", "main", "--description", "x", "--etag", "old").err


def test_a_server_of_another_kind_is_recognised(farhand: Farhand, servers: ScriptedServers) -> None:
    result = farhand("tenant", "list")
    assert result.code == 1
    assert "does not know this call" in result.err


def test_a_message_can_neither_steer_the_terminal_nor_fill_it(farhand: Farhand, servers: ScriptedServers) -> None:
    def refuse(_: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.NOT_FOUND, "a\x1b[2Jb\n" + "line\n" * 100 + "x" * 3000)

    servers.on["GetTenant"] = refuse
    result = farhand("tenant", "get", "main")
    lines = result.err.splitlines()
    assert lines[0] == "farhand: ab"
    assert len(lines) == 20
    assert lines[-1] == "  … and 83 more lines"
    assert max(map(len, CommandFailed("x" * 3000).lines())) < 2100


def test_tls_trouble_points_to_the_authority(farhand: Farhand, servers: ScriptedServers, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("not a certificate")
    assert farhand("tenant", "list", "--tls-ca", str(authority)).code == 1
    missing = farhand("tenant", "list", "--tls-ca", str(tmp_path / "none.crt"))
    assert (missing.code, missing.err) == (
        1,
        f"farhand: --tls-ca {tmp_path / 'none.crt'} can't be read: No such file or directory.\n",
    )


def test_a_fault_of_our_own_is_one_line_too(farhand: Farhand, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("farhand.cli.version.version", broken)
    result = farhand("version")
    assert result.code == 1
    assert result.err.startswith("farhand: This is a fault of farhand itself: RuntimeError: unforeseen\n")
    assert "Traceback" not in result.err
    monkeypatch.setenv("FARHAND_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        farhand("version")


def test_the_token_travels_with_the_call(farhand: Farhand, servers: ScriptedServers, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    farhand("tenant", "get", "main", "--token-file", str(token))
    assert servers.metadata["GetTenant"][0]["authorization"] == "Bearer s3cret"
