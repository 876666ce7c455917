"""The wire contract: stubs equal their protos, buf is content, every RPC says who may call it and is guarded."""

import filecmp
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import google.rpc
import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from farhand.kernel import errors
from tests.architecture.repository import ROOT

PROTOS = ROOT / "protos"
STUBS = ROOT / "services/farhand/api"
GOOGLE = Path(next(iter(google.rpc.__path__))).parents[1]


def test_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROTOS / "generate.py", tmp_path], check=True)
    fresh = tmp_path / "farhand/api"
    names = {str(path.relative_to(fresh)) for path in fresh.rglob("*.py*")}
    committed = {str(path.relative_to(STUBS)) for path in STUBS.rglob("*.py*") if "__pycache__" not in path.parts}
    assert committed == names
    _, different, missing = filecmp.cmpfiles(fresh, STUBS, sorted(names), shallow=False)
    assert not different + missing, "run: make protos"


def buf(folder: Path, *arguments: str) -> None:
    tool = Path(sys.executable).with_name("buf")
    result = subprocess.run([tool, *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_buf_lints_the_protos(buf_module: Path) -> None:
    buf(buf_module, "lint")


def test_buf_formats_the_protos_as_they_are(buf_module: Path) -> None:
    buf(buf_module, "format", "--diff", "--exit-code", "--path", "farhand")


def files_with_comments(folder: Path) -> descriptor_pb2.FileDescriptorSet:
    """The descriptors of our protos with their comments."""
    out = folder / "protos.bin"
    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("farhand/**/*.proto"))
    includes = [PROTOS, Path(grpc_tools.__file__).parent / "_proto", GOOGLE]
    arguments = ["protoc", *(f"-I{include}" for include in includes), "--include_source_info"]
    assert protoc.main([*arguments, f"--descriptor_set_out={out}", *names]) == 0
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def comments_of_rpcs(folder: Path) -> dict[str, tuple[str, str]]:
    """Full method name → the comment of its service, its own comment."""
    found = {}
    for file in files_with_comments(folder).file:
        comments = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                name = f"/{file.package}.{service.name}/{method.name}"
                found[name] = (comments.get((6, i), ""), comments.get((6, i, 2, j), ""))
    return found


def test_every_rpc_says_who_may_call_it(tmp_path: Path) -> None:
    rpcs = comments_of_rpcs(tmp_path)
    assert len(rpcs) > 20
    assert not [name for name, comments in rpcs.items() if not re.search(r"Caller:|Who may call:", " ".join(comments))]


def access_tables() -> dict[str, frozenset[str]]:
    """Full method name → roles, of every service that has a table."""
    found: dict[str, frozenset[str]] = {}
    for service in ("registry", "scheduler"):
        module = f"farhand.{service}.rpc.access"
        assert importlib.util.find_spec(module), f"{module} has moved: tell this test where"
        table = importlib.import_module(module).ACCESS
        assert not found.keys() & table.keys()
        found |= table
    return found


def test_every_rpc_is_in_exactly_one_access_table(tmp_path: Path) -> None:
    assert access_tables().keys() == comments_of_rpcs(tmp_path).keys()


def test_no_rpc_is_open_to_nobody() -> None:
    assert not [name for name, roles in access_tables().items() if not roles]


def published_reasons() -> dict[str, tuple[str, bool]]:
    """Reason → status and retryable, from the table of protos/README.md."""
    rows = re.findall(
        r"^\|\s*`([A-Z_]+)`\s*\|\s*`([A-Z_]+)`\s*\|\s*(yes|no)\b", (PROTOS / "README.md").read_text(), re.MULTILINE
    )
    return {reason: (status, retryable == "yes") for reason, status, retryable in rows}


def test_the_published_table_of_reasons_is_that_of_the_kernel() -> None:
    def tree(root: type[errors.FarhandError]) -> list[type[errors.FarhandError]]:
        return [root, *(error for child in root.__subclasses__() for error in tree(child))]

    known = {error.reason: (error.status, error.retryable) for error in tree(errors.FarhandError)}
    assert published_reasons() == known
