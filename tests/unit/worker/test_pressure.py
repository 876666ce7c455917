"""When a machine is too short of something to take new jobs."""

from pathlib import Path

import pytest

from farhand.worker.core.pressure import Pressure
from farhand.worker.memory import available

MIB = 1 << 20


def test_enough_is_no_pressure() -> None:
    pressure = Pressure(64 * MIB, 64 * MIB)
    assert not pressure.observe(disk=64 * MIB, memory=64 * MIB)
    assert not pressure and pressure.reasons == ()


@pytest.mark.parametrize(("disk", "memory", "what"), [(63, 900, "disk"), (900, 10, "memory")])
def test_below_a_floor_there_is_pressure_and_it_says_of_what(disk: int, memory: int, what: str) -> None:
    pressure = Pressure(64 * MIB, 64 * MIB)
    assert pressure.observe(disk=disk * MIB, memory=memory * MIB)
    assert pressure
    [reason] = pressure.reasons
    assert reason.startswith(f"{what}: {min(disk, memory)} MiB free, 64 MiB needed")


def test_it_ends_a_quarter_above_the_floor() -> None:
    pressure = Pressure(64 * MIB, 0)
    pressure.observe(disk=60 * MIB, memory=None)
    assert not pressure.observe(disk=79 * MIB, memory=None)
    assert pressure
    assert pressure.observe(disk=80 * MIB, memory=None)
    assert not pressure


def test_what_comes_on_top_is_news() -> None:
    pressure = Pressure(64 * MIB, 64 * MIB)
    assert pressure.observe(disk=0, memory=900 * MIB)
    assert pressure.observe(disk=0, memory=0)
    assert len(pressure.reasons) == 2
    assert not pressure.observe(disk=0, memory=0)


def test_what_can_t_be_told_or_has_no_floor_is_enough() -> None:
    assert not Pressure(64 * MIB, 64 * MIB).observe(disk=None, memory=None)
    assert not Pressure(0, 0).observe(disk=0, memory=0)


def test_linux_tells_what_is_available(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       16384 kB\nMemFree:  12 kB\nMemAvailable:    2048 kB\n")
    assert available(file) == 2 * MIB
    file.write_text("MemTotal: 1 kB\n")
    assert available(file) is None
    assert available(tmp_path / "none") is None
