"""Some seeds of `make simulate` in every test run, and that a broken product does not pass them."""

import subprocess
import sys

import pytest


def play(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--jobs", "2", *flags], capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(400)
def test_no_seed_breaks_a_guarantee() -> None:
    played = play("--seeds", "100")
    assert played.returncode == 0, played.stdout[-8000:] + played.stderr[-2000:]
    assert "100 seeds" in played.stdout + played.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sabotage", ["a result is recorded whatever its fence", "a stream has one credit too many"])
def test_a_broken_product_is_found_out(sabotage: str) -> None:
    assert play("--seeds", "60", "--sabotage", sabotage).returncode == 1
