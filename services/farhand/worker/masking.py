"""What must not leave a run: the secrets that it was given. In all that it says, MASK stands for them.

A secret is looked for as it is, as it stands inside of JSON, of Python's notation and of
an address, and in Base64 (alone, or in the middle of something). One of several lines is
looked for line by line, too, since that is how logs come; lines of it that are shorter
than SHORTEST are found in the whole alone. What an expression makes of a secret
(`{{ inputs.token | upper }}`) is masked like one, unless the secret can be found in it.

What a program makes of a secret by itself (its hash, every second letter of it, half of
it on one line and half on the next) nobody can find. Files are not looked into.
"""

import base64
import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

from farhand.kernel.secrets import MASK, SHORTEST, names_secret, variables_with
from farhand.worker.tasks.base import Outcome

_SHORTEST_BASE64 = 8  # letters of Base64 that can't be anything else
_BASE64_LINE = 76  # letters, where tools break it
_NO_DERIVED = frozenset({"true", "false", "none", "null"})  # of a secret that is compared or looked for
_CUT = "…"


class Mask:
    """The secrets of one run."""

    def __init__(self, secrets: Mapping[str, str], variables: Mapping[str, Any] | None = None) -> None:
        """`secrets`: by the names of the inputs; `variables`: of the flow, as they were written."""
        self._names = frozenset(secrets)
        self._variables = variables or {}
        self._with_secrets: frozenset[str] | None = None  # of the variables; None: not known yet
        self._forms: tuple[str, ...] = ()  # the longest first
        for secret in secrets.values():
            self._add(secret)

    def rendered(self, names: frozenset[tuple[str, ...]], text: str) -> None:
        """An expression with these names came to this text, before anything is made of it."""
        if not self._forms:
            return
        if self._with_secrets is None:
            self._with_secrets = variables_with(self._variables, self._names)
        ours = any(names_secret(name, self._names, self._with_secrets) for name in names)
        if ours and text.lower() not in _NO_DERIVED and self.text(text) == text:
            self._add(text)

    def text(self, text: str, *, cut: bool = False) -> str:
        """A text without secrets. `cut`: its end was cut off, so that the beginning of one may stand there; wherever
        it says itself that it is cut (…) that is looked at anyway."""
        if not self._forms:
            return text
        spans = list(self._found(text))
        at = text.find(_CUT)
        while at >= 0:
            spans += self._begun(text, at)
            at = text.find(_CUT, at + 1)
        if cut:
            spans += self._begun(text, len(text))
        return _without(text, spans) if spans else text

    def deep(self, value: Any) -> Any:
        """A JSON value without secrets, in the names of its maps, too."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self.deep(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.deep(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool) and self.text(str(value)) != str(value):
            return MASK
        return value

    def outcome(self, outcome: Outcome) -> Outcome:
        """An outcome without secrets."""
        if not self._forms:
            return outcome
        return replace(
            outcome,
            outputs=self.deep(outcome.outputs),
            reason=self.text(outcome.reason),
            message=self.text(outcome.message, cut=True),
        )

    def traceback(self, error: BaseException) -> str:
        """What Python tells of an error, without secrets."""
        return self.text("".join(traceback.format_exception(error)), cut=True)

    # ── inside ──

    def _add(self, secret: str) -> None:
        fresh = {form for form in _forms(secret) if len(form) >= SHORTEST}
        self._forms = tuple(sorted(fresh.union(self._forms), key=lambda form: (-len(form), form)))

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        for form in self._forms:
            at = text.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = text.find(form, at + 1)

    def _begun(self, text: str, end: int) -> Iterator[tuple[int, int]]:
        """The longest beginning of a secret that ends there."""
        for form in self._forms:
            for length in range(min(len(form) - 1, end), SHORTEST - 1, -1):
                if text.startswith(form[:length], end - length):
                    yield end - length, end
                    break


NOTHING = Mask({})


def _forms(secret: str) -> Iterator[str]:
    for part in {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}:
        yield part
        yield json.dumps(part)[1:-1]
        yield json.dumps(part, ensure_ascii=False)[1:-1]
        yield repr(part)[1:-1]
        yield ascii(part)[1:-1]
        yield quote(part)
        yield quote(part, safe="")
        yield quote_plus(part)
    for part in {secret, secret.strip()}:
        for form in _base64(part.encode("utf-8", "replace")):
            yield form
            yield form.translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")


def _base64(data: bytes) -> Iterator[str]:
    """Of the data's Base64 what is the same whatever stands around it, for each of the three ways in which it can
    begin; and its lines, where it is broken into lines."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        certain = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(certain) >= _SHORTEST_BASE64:
            yield certain
    alone = base64.b64encode(data).decode()
    for start in range(0, len(alone), _BASE64_LINE):
        if len(line := alone[start : start + _BASE64_LINE].rstrip("=")) >= _SHORTEST_BASE64:
            yield line


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with one MASK for each run of spans that overlap or touch."""
    kept: list[str] = []
    position = 0
    for begin, end in sorted(spans):
        if begin > position or not kept:
            kept += [text[position:begin], MASK]
        position = max(position, end)
    return "".join([*kept, text[position:]])
