"""Entry of the warden: `python -I -S -X utf8 …/warden/__main__.py DESCRIPTOR`, started by farhand.worker.warden_client.

-I and -S keep site-packages, the environment and the current folder out (and
10 MB with them); -X utf8 makes the bytes of argv and environment the same
whatever the locale. DESCRIPTOR is our end of a socketpair with the worker.
"""

import gc
import os
import signal
import socket
import sys

if not __package__:
    # Run by path we belong to no package. Make this folder one of its own name, so that the modules beside us
    # import each other as they do inside farhand, and nothing else of farhand can be imported.
    _package = type(sys)("farhand_warden")
    _package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules["farhand_warden"] = _package
    __package__ = "farhand_warden"

from . import linux
from .loop import Warden


def main(descriptor: int) -> None:
    """Serve the worker at the other end; returns when it is gone and all that ran is killed."""
    worker = socket.socket(fileno=descriptor)
    worker.set_inheritable(False)
    worker.setblocking(False)
    # A Ctrl-C or a stop of the service reaches the worker first, which decides. Our own end is its end-of-file.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")  # hold no file system busy
    linux.name_process("farhand-warden")
    linux.adopt_orphans()
    gc.freeze()  # forks share the memory of what exists now, as long as the collector doesn't write to it
    Warden(worker).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
