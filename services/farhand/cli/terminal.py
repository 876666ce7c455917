"""What may reach a terminal of what other people wrote.

A description, an error message or a host name can hold escape sequences that move the
cursor, rewrite what stands above, or set a window's title, and bidirectional controls
that show text in another order than it has. `plain` takes all of that out. A job's own
log lines keep more: see `log_line`.
"""

import re
import unicodedata

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences (ECMA-48, 5.4)
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x1b\\|\x07|\x9c|$)"  # strings: titles, hyperlinks, …
    r"|\x1b[ -/]*[0-~]?"  # the rest
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str) -> str:
    """One line of visible characters: escapes and invisible ones are gone, white space is a space."""
    if text.isascii() and text.isprintable():
        return text
    text = re.sub(r"[\t\n\r\v\f\u2028\u2029]+", " ", _ESCAPES.sub("", text))
    return "".join(character for character in text if unicodedata.category(character) not in _INVISIBLE)


def log_line(text: str) -> str:
    """A job's log line for a terminal: colours, tabs and carriage returns stay, other control characters go.

    Only for a terminal: into a file or a pipe a line goes as it is.
    """
    if text.isprintable():
        return text
    parts = []
    end = 0
    for escape in _ESCAPES.finditer(text):
        parts.append(text[end : escape.start()])
        if _COLOUR.fullmatch(escape[0]):
            parts.append(escape[0])
        end = escape.end()
    parts.append(text[end:])
    return "".join(
        part if part.startswith("\x1b") else re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "", part)
        for part in parts
    )
