"""The entry point `farhand`, and the boundary behind which no error is a traceback."""

import os
import sys
from collections.abc import Sequence

from farhand.cli.failure import CommandFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code."""
    from farhand.cli.root import app

    try:
        app(args=argv, prog_name="farhand")
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except CommandFailed as failure:
        sys.stderr.write("".join(f"{line}\n" for line in failure.lines()))
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("FARHAND_TRACEBACK"):
            raise
        fault = CommandFailed(
            f"This is a fault of farhand itself: {type(error).__name__}: {error}",
            "FARHAND_TRACEBACK=1 shows where; please report it.",
        )
        sys.stderr.write("".join(f"{line}\n" for line in fault.lines()))
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
