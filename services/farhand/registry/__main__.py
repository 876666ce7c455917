"""`python -m farhand.registry`, which `farhand server registry` runs."""

import sys

from farhand.registry.settings import RegistrySettings
from farhand.runtime.settings import parse


def main() -> None:
    """Parse the settings first, so that --help answers at once; then serve."""
    settings = parse(
        RegistrySettings,
        sys.argv[1:],
        prog="farhand server registry",
        description="Keeps what is declared: tenants, namespaces, worker groups; and the roll of workers. "
        "Several replicas may share one database.",
        examples=(
            "FARHAND_DATABASE_URL=postgresql://farhand:secret@db/farhand farhand server registry",
            "farhand server registry --listen 0.0.0.0:7401 --tls-cert server.crt --tls-key server.key "
            "--tokens tokens.toml",
        ),
    )
    from farhand.registry.bootstrap import serve
    from farhand.runtime.service import run

    run("registry", settings, lambda lifecycle: serve(lifecycle, settings))


if __name__ == "__main__":
    main()
