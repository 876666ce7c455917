"""What each job runs: `program.py REQUEST SECONDS EXIT_CODE` says that it lives, for so many seconds.

A task of an execution runs `program.py REQUEST SECONDS EXIT_CODES EXECUTION TASK
ATTEMPTS_BEFORE [TASK=FENCE …]`: an exit code for each attempt, by commas, of which the
last stands for those behind it, and what the outputs of its predecessors told. It gives
its own fence as output.

It imports next to nothing, so that it starts quickly, and nothing of ours. Each line is
one write to a file opened for appending, so lines of several programs don't mix. When
the process was made comes from the kernel, since a busy machine may let it write its
first line a good while later.
"""

import os
import sys
import time

PROGRAM = os.path.abspath(__file__)  # noqa: PTH100 (as below)
BEAT = 0.1  # seconds between two signs of life


def spawned() -> float:
    """When this process was made, by CLOCK_MONOTONIC, up to one clock tick early."""
    with open("/proc/self/stat") as stat:  # noqa: PTH123 (pathlib takes longer to import than all the rest)
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return ticks / os.sysconf("SC_CLK_TCK") - slept


def of_task_run(execution: str, task: str, before: str, *given: str) -> str:
    """What the lines of a task run have beside those of other jobs, in JSON."""
    got = ", ".join('"{}": "{}"'.format(*each.partition("=")[::2]) for each in given)
    return f', "execution": "{execution}", "task": "{task}", "attempt": {int(before) + 1}, "got": {{{got}}}'


def main() -> int:
    request, seconds, codes, *run = sys.argv[1:]
    env = os.environ
    made = spawned()
    more = of_task_run(*run) if run else ""
    attempts = int(run[2]) if run else 0
    code = int(codes.split(",")[: attempts + 1][-1])
    file = os.open(env["CHAOS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def say(what: str) -> float:
        now = time.monotonic()
        line = (
            f'{{"what": "{what}", "at": {now:.6f}, "spawned": {made:.6f}, "request": "{request}", '
            f'"job": "{env["FARHAND_JOB_ID"]}", "fence": {env["FARHAND_FENCE"]}, "worker": "{env["CHAOS_WORKER"]}", '
            f'"group": "{env["CHAOS_GROUP"]}", "tenant": "{env["FARHAND_TENANT"]}"{more}}}\n'
        )
        os.write(file, line.encode())
        return now

    until = say("start") + float(seconds)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(BEAT, left))
        if left > BEAT:
            say("alive")
    if run:
        print(f'::{{"outputs": {{"fence": "{env["FARHAND_FENCE"]}"}}}}::', flush=True)
    say("end")
    return code


if __name__ == "__main__":
    sys.exit(main())
