"""What each job runs: `program.py REQUEST SECONDS EXIT_CODE` says that it lives, for so many seconds.

It imports next to nothing, so that it starts quickly, and nothing of ours. Each line is
one write to a file opened for appending, so lines of several programs don't mix. When
the process was made comes from the kernel, since a busy machine may let it write its
first line a good while later.
"""

import os
import sys
import time

BEAT = 0.1  # seconds between two signs of life


def spawned() -> float:
    """When this process was made, by CLOCK_MONOTONIC, up to one clock tick early."""
    with open("/proc/self/stat") as stat:  # noqa: PTH123 (pathlib takes longer to import than all the rest)
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return ticks / os.sysconf("SC_CLK_TCK") - slept


def main() -> int:
    request, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    env = os.environ
    made = spawned()
    file = os.open(env["CHAOS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def say(what: str) -> float:
        now = time.monotonic()
        line = (
            f'{{"what": "{what}", "at": {now:.6f}, "spawned": {made:.6f}, "request": "{request}", '
            f'"job": "{env["FARHAND_JOB_ID"]}", "fence": {env["FARHAND_FENCE"]}, "worker": "{env["CHAOS_WORKER"]}", '
            f'"group": "{env["CHAOS_GROUP"]}", "tenant": "{env["FARHAND_TENANT"]}"}}\n'
        )
        os.write(file, line.encode())
        return now

    until = say("start") + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(BEAT, left))
        if left > BEAT:
            say("alive")
    say("end")
    return code


if __name__ == "__main__":
    sys.exit(main())
