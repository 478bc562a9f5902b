"""What `appliance.settings` declares, as a list: for the sample, the checks and the help pages."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from appliance.settings import Settings


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared setting, as the sample, the checks and the help pages need it."""

    section: str
    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool

    @property
    def path(self) -> str:
        """Its name in the file, such as `receiver.port`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """Its override, such as `BROOKBOX_RECEIVER_PORT`."""
        return f"BROOKBOX_{self.section}_{self.name}".upper()


def declared() -> list[Declared]:
    """List every setting in the order of its declaration."""
    return list(_declared())


def _declared() -> Iterator[Declared]:
    for section_name, section in sections().items():
        hints = typing.get_type_hints(section)
        blank = section()
        for field in fields(section):
            yield Declared(
                section_name,
                field.name,
                hints[field.name],
                getattr(blank, field.name),
                **field.metadata,
            )


def sections() -> dict[str, Any]:
    """Map each section's name to its dataclass."""
    hints = typing.get_type_hints(Settings)
    return {
        field.name: hints[field.name]
        for field in fields(Settings)
        if dataclasses.is_dataclass(hints[field.name])
    }
