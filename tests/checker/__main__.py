"""`python -m tests.checker FOLDER` judges the histories there; exits 1 where something is wrong."""

import argparse
import sys
from pathlib import Path

from tests.checker.findings import report
from tests.checker.reading import read
from tests.checker.verdicts import MARGIN, check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.checker", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--margin", type=float, default=MARGIN, help="longer than any scheduler stood still, seconds")
    wanted = parser.parse_args()
    events = read(wanted.folder)
    findings = check(events, margin=wanted.margin)
    print(report(findings) if findings else f"{len(events)} lines: nothing is wrong")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
