"""The import contracts of pyproject.toml hold (services/README.md says what they are for)."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.architecture.repository import ROOT

WARDEN = "farhand.worker.warden"


def test_every_import_contract_is_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr


def imported_names(file: Path) -> set[str]:
    """The absolute names of all that a module imports, also inside its functions."""
    package = ".".join(file.relative_to(ROOT / "services").parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(importlib.util.resolve_name("." * node.level + (node.module or ""), package))
    return names


def test_the_warden_imports_the_standard_library_alone() -> None:
    files = sorted((ROOT / "services/farhand/worker/warden").glob("**/*.py"))
    assert files, "the warden has moved: tell this test where"
    foreign = {
        f"{file.name}: {name}"
        for file in files
        for name in imported_names(file)
        if name.split(".")[0] not in sys.stdlib_module_names and name != WARDEN and not name.startswith(f"{WARDEN}.")
    }
    assert not foreign


def test_the_packages_above_the_warden_are_empty() -> None:
    """Importing farhand.worker.warden runs these two files as well."""
    for package in ("services/farhand/__init__.py", "services/farhand/worker/__init__.py"):
        assert not imported_names(ROOT / package)
