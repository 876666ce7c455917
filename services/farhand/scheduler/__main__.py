"""`python -m farhand.scheduler`, which `farhand server scheduler` runs."""

import sys

from farhand.runtime.settings import parse
from farhand.scheduler.settings import SchedulerSettings


def main() -> None:
    """Parse the settings first, so that --help answers at once; then serve."""
    settings = parse(
        SchedulerSettings,
        sys.argv[1:],
        prog="farhand server scheduler",
        description="Queues jobs per worker group and assigns them to the workers that dial in. Several replicas may "
        "share one database.",
        examples=(
            "FARHAND_DATABASE_URL=postgresql://farhand:secret@db/farhand farhand server scheduler",
            "farhand server scheduler --listen 0.0.0.0:7402 --registry registry:7401 --tls-cert server.crt "
            "--tls-key server.key --tokens tokens.toml --tls-ca ca.crt --token-file service.token",
        ),
    )
    from farhand.runtime.service import run
    from farhand.scheduler.bootstrap import serve

    run("scheduler", settings, lambda lifecycle: serve(lifecycle, settings))


if __name__ == "__main__":
    main()
