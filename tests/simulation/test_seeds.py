"""Some seeds of `make simulate` in every test run, and that a broken product does not pass them."""

import subprocess
import sys

import pytest

from tests.simulation.nemesis import FAULTS

SEEDS = 250
KINDS = [fault.__name__ for fault in FAULTS]
KINDS += ["killed_on_its_way", "drained_on_its_way", "cut_on_its_way", "commit_lost", "answer_lost"]
KINDS += ["moved_by_age", "moved_by_count", "moved_by_stop", "silent_given_up"]
DEATHS = (  # behind these, and rarely behind others
    *("a commit", "a frame sent", "an order to the warden", "results written down", "results struck out"),
    *("enqueue committed", "claim committed", "assignments sent", "assignments received", "folder made"),
    *("process started", "process ended", "result journaled", "result sent", "result committed", "result answered"),
    *("result acknowledged", "result forgotten", "session opened", "welcome sent", "hello sent", "drain committed"),
    *("drain acknowledged", "drain answered", "waiting job killed", "kill marked", "kill obeyed", "lease expired"),
)
KINDS += [f"crashed behind {effect!r}" for effect in DEATHS]


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
