"""The client in TypeScript (node/src), generated from protos/ and run against real services.

`make test` installs its packages from node/package-lock.json; by hand: `npm ci` in node/.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.fixtures.mesh import Mesh

NODE = Path(__file__).parent / "node"


async def succeed(*command: str | Path, **environment: str) -> str:
    """Run it in node/ and give what it printed; it must exit 0."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=NODE,
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{command[0]} exited with {process.returncode}:\n{output.decode()}"
    return output.decode()


@pytest.fixture
async def program(buf_module: Path) -> Path:
    """The compiled tests: stubs generated, types checked."""
    if not (NODE / "node_modules" / ".bin" / "tsc").exists():
        pytest.fail(f"The client's packages are not installed: run `npm ci` in {NODE}, or `make test`.")
    for made in ("gen", "dist"):
        shutil.rmtree(NODE / made, ignore_errors=True)
    await succeed(Path(sys.executable).with_name("buf"), "generate", buf_module)
    await succeed(NODE / "node_modules" / ".bin" / "tsc")
    return NODE / "dist" / "src" / "story.test.js"


async def test_a_client_in_typescript_submits_tails_kills_runs_flows_and_reads_errors(
    mesh: Mesh, program: Path
) -> None:
    await mesh.start(workers=["", "gpu"])
    output = await succeed(
        "node",
        "--test",
        "--test-reporter=tap",
        program,
        FARHAND_SCHEDULER=mesh.schedulers[0].address,
        FARHAND_REGISTRY=mesh.registries[0].address,
    )
    assert "# fail 0" in output
    assert "# skipped 0" in output
    assert "# pass 9" in output, output
