"""Some seeds of `make simulate` in every test run, and that a broken product does not pass them."""

import subprocess
import sys

import pytest

from farhand.runtime.crash_points import POINTS
from tests.simulation.nemesis import FAULTS

SEEDS = 250
KINDS = [fault.__name__ for fault in FAULTS]
KINDS += ["killed_on_its_way", "drained_on_its_way", "cut_on_its_way", "commit_lost", "answer_lost"]
KINDS += ["moved_by_age", "moved_by_count", "moved_by_stop", "silent_given_up"]
LEFT_OUT = {  # logs, the registry, a data folder's own files, and jobs that can't be started are not played
    "return committed",
    *("logs committed", "logs acknowledged", "copy committed", "report answered", "incarnation noted", "dead reported"),
    *("deletion ended jobs", "deletion counted", "deletion answered"),
}
KINDS += [f"crashed behind {effect!r}" for effect in ("a commit", "a frame sent", *(POINTS.keys() - LEFT_OUT))]


def play(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--jobs", "2", *flags], capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(900)
def test_no_seed_breaks_a_guarantee() -> None:
    played = play("--seeds", str(SEEDS))
    assert played.returncode == 0, played.stdout[-8000:] + played.stderr[-2000:]
    assert f"{SEEDS} seeds" in played.stdout
    assert [kind for kind in KINDS if kind not in played.stdout] == []  # everything that can go wrong did


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sabotage", ["a result is recorded whatever its fence", "a stream has one credit too many"])
def test_a_broken_product_is_found_out(sabotage: str) -> None:
    assert play("--seeds", "60", "--sabotage", sabotage).returncode == 1
