"""The warden's timer on CLOCK_BOOTTIME."""

import os
import select
import time

import pytest

from farhand.worker.warden.linux import BootTimer

PATIENCE = 60.0


def rings(timer: BootTimer, timeout: float = PATIENCE) -> bool:
    return bool(select.select([timer.fd], [], [], timeout)[0])


@pytest.fixture
def timer() -> BootTimer:
    return BootTimer()


def test_it_rings_at_its_moment_and_not_before(timer: BootTimer) -> None:
    at = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.05
    timer.set(at)
    assert rings(timer)
    assert time.clock_gettime(time.CLOCK_BOOTTIME) >= at
    timer.acknowledge()
    assert not rings(timer, 0)
    timer.acknowledge()
    os.close(timer.fd)


@pytest.mark.parametrize("moment", [-5.0, 0.0, 1e-12])
def test_a_moment_that_has_passed_rings_at_once(timer: BootTimer, moment: float) -> None:
    timer.set(moment)
    assert rings(timer)
    os.close(timer.fd)


def test_never_takes_a_moment_back(timer: BootTimer) -> None:
    timer.set(0.0)
    timer.set(None)
    assert not rings(timer, 0)
    os.close(timer.fd)
