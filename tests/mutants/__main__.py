"""`make mutants`: breaks one line at a time in a copy, and prints which test caught it.

`make mutants ARGS="P5 P9"` tries those guarantees alone. Exits 1 when a sabotage
went unnoticed, or no longer fits the line that it is to break.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.sabotages import SABOTAGES, Sabotage

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("services", "tests", "protos", "pyproject.toml", "README.md")


def copy_to(folder: Path) -> None:
    """The sources, without what was built from them."""
    unwanted = shutil.ignore_patterns("__pycache__", "node_modules", "*.egg-info", "gen")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=unwanted)
        elif source.exists():
            shutil.copy(source, folder / name)


def apply(sabotage: Sabotage, folder: Path) -> None:
    """Break the line, which must stand there exactly once."""
    file = folder / sabotage.file
    text = file.read_text()
    if text.count(sabotage.line) != 1:
        raise SystemExit(f"{sabotage.name}: its line stands {text.count(sabotage.line)} times in {sabotage.file}")
    file.write_text(text.replace(sabotage.line, sabotage.broken))


def caught_by(sabotage: Sabotage, folder: Path) -> str | None:
    """The first test that fails; None where none does."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "services"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, *sabotage.tests], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) [^\s\[]*::(\w+(?:\[[^\]]*\])?)", result.stdout, re.MULTILINE)
    if result.returncode != 1 or found is None:
        raise SystemExit(f"{sabotage.name}: the tests could not be run\n{result.stdout[-3000:]}{result.stderr[-2000:]}")
    return found[1]


def main(wanted: Sequence[str]) -> int:
    """Try them all, or those of the wanted guarantees."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table("guarantee", "sabotage", "caught by", title="One line broken at a time")
    unnoticed = 0
    for sabotage in SABOTAGES:
        if wanted and sabotage.guarantee not in wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="farhand-mutant-") as name:
            folder = Path(name)
            copy_to(folder)
            apply(sabotage, folder)
            test = caught_by(sabotage, folder)
        unnoticed += test is None
        print(f"{sabotage.guarantee}: {sabotage.name}: {test or 'NOT CAUGHT'}", file=sys.stderr, flush=True)
        table.add_row(sabotage.guarantee, sabotage.name, test or "[bold red]nothing[/]")
    console.print(table)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
