"""`make simulate`: plays seeds, and prints the transcript of the first that breaks a guarantee.

    python -m tests.simulation --seeds 1000 --from 1
    python -m tests.simulation --replay 42        one seed, with its transcript

A seed plays the same each time under the same PYTHONHASHSEED, so this starts itself
again with 0 where it is not set so.
"""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.sabotages import BY_NAME
from tests.simulation.seed import Played, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many to play")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first one")
    parser.add_argument("--replay", type=int, help="play this one alone, and print its transcript")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes to play them in")
    parser.add_argument("--sabotages", action="store_true", help="find each of the sabotages, in --seeds at most")
    parser.add_argument("--sabotage", choices=sorted(BY_NAME), help="break the product in this way first")
    wanted = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        arguments = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONHASHSEED": "0"})
    _silence()
    if wanted.replay is not None:
        return _replay(wanted.replay, wanted.sabotage)
    if wanted.sabotages:
        return _sabotages(range(wanted.first, wanted.first + wanted.seeds), wanted.jobs)
    began = time.monotonic()
    total: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for played in _play_all(range(wanted.first, wanted.first + wanted.seeds), wanted.sabotage, wanted.jobs):
        faults += played.faults
        total += Counter(seeds=1, events=played.events, jobs=played.jobs, assignments=played.assignments)
        total["virtual seconds"] += int(played.virtual_seconds)
        if played.violations:
            _replay(played.seed, wanted.sabotage)
            print(f"\nseed {played.seed}, the first that failed, after {total['seeds']} seeds")
            return 1
    seconds = time.monotonic() - began
    print(f"{total['seeds']} seeds in {seconds:.1f} s ({total['seeds'] / seconds:.1f} a second): nothing is broken")
    print(", ".join(f"{count:,} {what}" for what, count in total.items() if what != "seeds"))
    print("faults: " + ", ".join(f"{kind} {count:,}" for kind, count in faults.most_common()))
    return 0


def _play_all(seeds: Iterable[int], sabotage: str | None, jobs: int) -> Iterator[Played]:
    if jobs <= 1:
        yield from map(_play, ((seed, sabotage) for seed in seeds))
        return
    pool = ProcessPoolExecutor(jobs, initializer=_silence)
    try:
        yield from pool.map(_play, ((seed, sabotage) for seed in seeds), chunksize=2)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _silence() -> None:
    """Of a world that is over, coroutines are closed in the middle; what they complain of, nobody is to read."""
    sys.unraisablehook = lambda _: None
    logging.lastResort = None


def _sabotages(seeds: Sequence[int], jobs: int) -> int:
    """One line for each: the seed that found it, and the first guarantee that it broke."""
    missed = 0
    with ProcessPoolExecutor(jobs, initializer=_silence) as pool:
        for name, found in zip(BY_NAME, pool.map(_find, BY_NAME, [seeds] * len(BY_NAME)), strict=True):
            missed += found is None
            print(f"{found[0] if found else 'MISSED'}\t{found[1] if found else ''}\t{name}", flush=True)
    return 1 if missed else 0


def _find(name: str, seeds: Sequence[int]) -> tuple[int, str] | None:
    sabotage = BY_NAME[name]
    for seed in seeds:
        with sabotage.applied():
            broken = [violation.guarantee for violation in play(seed).violations]
        if sabotage.guarantees.intersection(broken):
            return seed, next(guarantee for guarantee in broken if guarantee in sabotage.guarantees)
    return None


def _play(wanted: tuple[int, str | None]) -> Played:
    seed, sabotage = wanted
    with BY_NAME[sabotage].applied() if sabotage else contextlib.nullcontext():
        return play(seed)


def _replay(seed: int, sabotage: str | None) -> int:
    with BY_NAME[sabotage].applied() if sabotage else contextlib.nullcontext():
        played = play(seed, lambda now, who, what: print(f"{now:9.3f}  {who:12}  {what}"))
    print()
    for violation in played.violations:
        print(violation)
    if not played.violations:
        print("nothing is broken")
    print(f"seed {seed}: {played.events:,} events, {played.jobs} jobs, {played.virtual_seconds:.1f} virtual seconds")
    again = f" --sabotage {sabotage!r}" if sabotage else ""
    print(f"to play it again: PYTHONHASHSEED=0 python -m tests.simulation --replay {seed}{again}")
    return 1 if played.violations else 0


if __name__ == "__main__":
    sys.exit(main())
