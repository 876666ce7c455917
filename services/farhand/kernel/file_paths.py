"""The rule for the paths of files: those of namespaces, and those in a task's working folder.

A path is relative and says where it leads: "/" between its parts, none of which is
empty, "." or "..". So no path leads out of the folder that it is put into, on any
system, and none needs to be normalised before it is compared.
"""

from farhand.kernel.errors import Violation
from farhand.kernel.names import shown

LONGEST_PATH = 500  # characters
LONGEST_PART = 255  # bytes in UTF-8: what file systems take


def check_path(path: str, value: str) -> list[Violation]:
    """What is wrong with a file's path; `path` names the field."""
    wrong = _wrong(value)
    return [Violation(path, wrong)] if wrong else []


def _wrong(value: str) -> str:
    if not value:
        return "must not be empty"
    if len(value) > LONGEST_PATH:
        return f"has {len(value)} characters; at most {LONGEST_PATH} are allowed"
    if value.startswith("/"):
        return f"{shown(value)} is absolute; a path is relative"
    parts = value.split("/")
    if ".." in parts:
        return f'{shown(value)} leads out of its folder; ".." is not allowed'
    if "" in parts or "." in parts:
        return f'{shown(value)} has an empty part or "."; write it like data/train.csv'
    if any(ord(sign) < 32 or ord(sign) == 127 or 0xD800 <= ord(sign) < 0xE000 for sign in value):
        return f"{shown(value)} has control characters, or is not Unicode"
    if any(len(part.encode()) > LONGEST_PART for part in parts):
        return f"{shown(value)} has a part of more than {LONGEST_PART} bytes"
    return ""
