"""Which paths a pattern means: `*.csv`, `plots/**`, `**/*.py`, `run-?.log`, `[ab]*`.

A pattern is compared with a whole relative path. `*` and `?` stay within one part
of it, `[…]` is one of the signs (`[!…]`: none of them), `**` stands for any number
of parts. A pattern that names a folder alone (`plots/`) means all that is in it.

No regular expressions: a pattern of a stranger's making could make one of those
look for years. Here the time is at most the pattern's length times the path's.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

from farhand.kernel.errors import Violation
from farhand.kernel.names import shown

LONGEST_PATTERN = 500  # characters

_Sign = Callable[[str], bool]  # whether a character fits; None in its place: any number of any characters
_Part = tuple[_Sign | None, ...]  # None in its place: `**`


def check_pattern(path: str, pattern: str) -> list[Violation]:
    """What is wrong with a pattern; `path` names the field."""
    if not pattern:
        return [Violation(path, "must not be empty")]
    if len(pattern) > LONGEST_PATTERN:
        return [Violation(path, f"has {len(pattern)} characters; at most {LONGEST_PATTERN} are allowed")]
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return [Violation(path, f'{shown(pattern)} leads out of the folder; a pattern is relative and has no ".."')]
    return []


def is_literal(pattern: str) -> bool:
    """Whether it means one path, the one that it spells."""
    return not any(sign in pattern for sign in "*?[") and not pattern.endswith("/")


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern means the path."""
    names, parts = path.split("/"), _parts(pattern)
    reached = [True] + [False] * len(names)  # [i]: the parts so far mean the first i names
    for place, part in enumerate(parts, 1):
        if part is None:
            first = reached.index(True) + (place == len(parts))  # at the end it means what is in a folder, not that
            reached = [index >= first for index in range(len(reached))]
        else:
            reached = [False, *(before and _fits(part, name) for before, name in zip(reached, names, strict=False))]
        if True not in reached:
            return False
    return reached[-1]


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the patterns means the path."""
    return any(matches(pattern, path) for pattern in patterns)


@lru_cache(1024)
def _parts(pattern: str) -> tuple[_Part | None, ...]:
    texts = pattern.removeprefix("./").split("/")
    if texts[-1] == "":
        texts[-1] = "**"
    return tuple(None if text == "**" else _signs(text) for text in texts)


def _signs(text: str) -> _Part:
    signs: list[_Sign | None] = []
    index = 0
    while index < len(text):
        sign, index = text[index], index + 1
        if sign == "*":
            signs.append(None)
        elif sign == "?":
            signs.append(lambda _: True)
        elif sign == "[" and (end := text.find("]", index + 1 + text.startswith("!", index))) > 0:
            signs.append(_one_of(text[index:end]))
            index = end + 1
        else:
            signs.append(sign.__eq__)
    return tuple(signs)


def _one_of(inside: str) -> _Sign:
    """`abc`, `a-z`, `!0-9`."""
    negated, inside = inside.startswith("!"), inside.removeprefix("!")
    ranges: list[tuple[str, str]] = []
    while inside:
        if len(inside) >= 3 and inside[1] == "-":
            ranges.append((inside[0], inside[2]))
            inside = inside[3:]
        else:
            ranges.append((inside[0], inside[0]))
            inside = inside[1:]
    return lambda sign: any(low <= sign <= high for low, high in ranges) != negated


def _fits(part: _Part, name: str) -> bool:
    """Goes back to the last `*` alone, which is enough."""
    place = index = 0
    star, star_index = -1, 0
    while index < len(name):
        sign = part[place] if place < len(part) else None
        if place < len(part) and sign is None:
            star, star_index = place, index
            place += 1
        elif sign is not None and sign(name[index]):
            place += 1
            index += 1
        elif star >= 0:
            star_index += 1
            place, index = star + 1, star_index
        else:
            return False
    return all(sign is None for sign in part[place:])
