"""Generates the Python stubs of this folder: `python protos/generate.py [OUT]`.

OUT defaults to services/. The proto package is the Python package, so nothing is
rewritten. tests/architecture regenerates into a fresh folder and compares.
"""

import os
import sys
from pathlib import Path

import google.rpc
import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent


def generate(out: Path) -> None:
    """Write the stubs of every proto here below ``out``/farhand/api."""
    files = sorted(str(path.relative_to(HERE)) for path in HERE.glob("farhand/**/*.proto"))
    includes = [HERE, Path(grpc_tools.__file__).parent / "_proto", Path(next(iter(google.rpc.__path__))).parents[1]]
    out.mkdir(parents=True, exist_ok=True)
    # protoc looks for its plugins on PATH; they stand beside this Python, whether or not its environment is activated.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    arguments = ["protoc", *(f"-I{include}" for include in includes)]
    arguments += [f"--{plugin}_out={out}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    if protoc.main([*arguments, *files]) != 0:
        raise SystemExit("protoc failed")
    for file in files:
        for folder in (out / file).parent, (out / file).parent.parent:
            (folder / "__init__.py").touch()
    (out / "farhand" / "api" / "__init__.py").touch()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "services")
