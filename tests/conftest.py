"""Loads every module of tests/fixtures as a plugin, so a test asks for a fixture by its name alone."""

from pathlib import Path

import pytest

pytest_plugins = sorted(
    f"tests.fixtures.{path.stem}"
    for path in Path(__file__).parent.joinpath("fixtures").glob("*.py")
    if not path.stem.startswith("_")
)
pytest.register_assert_rewrite(*pytest_plugins)  # all before the first: they import one another, in any order
