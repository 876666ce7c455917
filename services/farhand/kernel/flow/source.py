"""A flow's YAML as plain data, with the line and column of everything in it."""

from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Source:
    """What the YAML holds."""

    data: Any

    @classmethod
    def of(cls, text: str | bytes) -> "Source":
        """Parse. Raises nothing: what is wrong with the YAML is told by read_flow."""
        return cls(yaml.safe_load(text))

    @property
    def namespace(self) -> str | None:
        """The namespace that it names, if it can be read: whoever reads the flow looks up what is declared there."""
        name = self.data.get("namespace") if isinstance(self.data, dict) else None
        return name if isinstance(name, str) else None
