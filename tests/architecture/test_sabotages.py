"""The sabotages of `make mutants` still fit: each breaks a line that stands there, and every guarantee has one."""

import pytest

from tests.architecture.repository import ROOT
from tests.mutants.sabotages import SABOTAGES, Sabotage


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_sabotage_fits_its_line(sabotage: Sabotage) -> None:
    assert (ROOT / sabotage.file).read_text().count(sabotage.line) == 1
    assert sabotage.broken != sabotage.line
    for test in sabotage.tests:
        assert (ROOT / test.partition("::")[0]).exists()


def test_every_guarantee_has_a_sabotage() -> None:
    assert {sabotage.guarantee for sabotage in SABOTAGES} == {f"P{number}" for number in range(1, 14)}
