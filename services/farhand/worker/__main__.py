"""`python -m farhand.worker`, which `farhand server worker` runs."""

import sys

from farhand.runtime.settings import parse
from farhand.worker.settings import WorkerSettings


def main() -> None:
    """Parse the settings first, so that --help answers at once; then work."""
    settings = parse(
        WorkerSettings,
        sys.argv[1:],
        prog="farhand server worker",
        description="Runs jobs of one worker group. It dials the scheduler and accepts no connection.",
        examples=(
            "farhand server worker",
            "farhand server worker --worker-group gpu --slots 4",
            "farhand server worker --worker-group gpu --scheduler scheduler.example.com:7402 --tls-ca ca.crt "
            "--token-file worker-gpu.token",
        ),
    )
    from farhand.runtime.service import run
    from farhand.worker.bootstrap import serve

    run("worker", settings, lambda lifecycle: serve(lifecycle, settings))


if __name__ == "__main__":
    main()
