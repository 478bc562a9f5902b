"""info.json: its keys, their types and limits, and what is wrong with one.

MagickBox's keys keep their names and meaning (name, description, version,
AETitle, license, enabled); the others are ours.  `read_info` never raises for
what a person wrote: it gives every problem with its line.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.dicom.names import is_ae_title
from appliance.streams.sentences import sentence_of

_LONGEST_FILE = 1_000_000
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # UTF-8, UTF-16
_MOST = 1_000_000_000  # of anything: more overflows a count of bytes
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")

Contract = Literal["brookbox", "magickbox", "magickbox-host"]


class StreamInfo(BaseModel):
    """The keys of info.json; a limit that is None is the node's setting of that name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    ae_title: str = Field(alias="AETitle", description="Studies sent to it go to this stream")
    name: str = Field("", max_length=200)
    description: str = Field("", max_length=5000)
    version: str = Field("", max_length=100)
    license: str = Field("", max_length=200)
    author: str = Field("", max_length=200)
    enabled: bool = Field(True, description="1 or 0; 0 refuses its AE title")
    contract: Contract | None = Field(None, description="How it is called")
    image: str = Field("", description="Docker image, such as brookbox/montage:1.0.0")
    command: tuple[str, ...] = Field((), description="What is run, such as python3 run.py")
    trusted: bool = Field(False, description="May run as a plain process")
    level: Literal["study", "series"] = "study"
    lanes: int = Field(1, ge=1, le=1000, description="Jobs of it that run side by side")
    priority: Literal["high", "normal", "low"] = "normal"
    accepts: dict[str, list[str]] = Field({}, description="Only instances of these values")
    then: tuple[str, ...] = ()
    quiet_seconds: float | None = Field(None, ge=0.1, le=86400)
    max_waiting: int | None = Field(None, ge=1, le=_MOST)
    on_resend: Literal["show", "run"] | None = None
    timeout_minutes: float | None = Field(None, gt=0, le=100_000)
    memory_gb: float | None = Field(None, ge=0.01, le=_MOST)
    cpus: float | None = Field(None, ge=0.01, le=_MOST)
    gpus: int = Field(0, ge=0, le=64)
    network: bool = False
    pids: int | None = Field(None, ge=4, le=_MOST)
    shm_mb: int | None = Field(None, ge=1, le=_MOST)
    tmp_mb: int | None = Field(None, ge=1, le=_MOST)
    output_gb: float | None = Field(None, gt=0, le=_MOST)
    output_files: int | None = Field(None, ge=1, le=_MOST)
    log_mb: float | None = Field(None, gt=0, le=_MOST)
    env: dict[str, str] = {}
    models: str = Field("", description="Folder of the stream, read-only at /models")
    memory: bool = Field(False, description="A kept folder at /memory")
    changes_patient: bool = False
    diagnostic: bool = False
    settings: dict[str, Any] = Field({}, description="For the stream itself, unread by the node")

    @pydantic.field_validator("ae_title")
    @classmethod
    def _good_ae_title(cls, text: str) -> str:
        if not is_ae_title(text):
            raise ValueError("must be 1 to 16 printable ASCII characters without backslash")
        return text.strip(" ")

    @pydantic.field_validator("image")
    @classmethod
    def _good_image(cls, text: str) -> str:
        if text and not _IMAGE.fullmatch(text):
            raise ValueError("must be the name of a Docker image, such as brookbox/montage:1.0.0")
        return text

    @pydantic.field_validator("command")
    @classmethod
    def _good_command(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in word for word in words):
            raise ValueError("holds a NUL, which no word of a command can")
        return words

    @pydantic.field_validator("models")
    @classmethod
    def _inside(cls, text: str) -> str:
        if text.startswith("/") or ".." in Path(text).parts:
            raise ValueError("must be a folder inside the stream's own")
        if len(text.encode("utf-8", "surrogatepass")) > 255:
            raise ValueError("must be at most 255 bytes long, as the name of a folder")
        return text

    @pydantic.field_validator("env")
    @classmethod
    def _good_env(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if "\0" in value:
                raise ValueError(f"{name} holds a NUL, which no variable can")
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith("BROOKBOX_"):
                raise ValueError(f"{name} cannot be the name of a variable of a stream")
        return env


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a stream: where, a sentence, and whether it stops the stream."""

    file: str
    line: int | None
    sentence: str
    stops: bool = True

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.sentence}"


def read_info(file: Path, contract_hint: Contract) -> tuple[StreamInfo | None, list[Problem]]:
    """Read one info.json; the info is None when it cannot be used.

    `contract_hint` is what the folder looks like: MagickBox's folders carry keys of
    their own, which are only warned of.
    """
    try:
        raw = _beginning_of(file)
    except OSError as error:
        return None, [Problem("info.json", None, f"It cannot be read: {error.strerror}.")]
    if len(raw) > _LONGEST_FILE:
        size = file.stat().st_size
        return None, [Problem("info.json", None, f"It is {size} bytes long; 1 MB is the most.")]
    if raw.startswith(_BYTE_ORDER_MARKS):
        sentence = "It begins with a byte order mark: save it as UTF-8 without one."
        return None, [Problem("info.json", 1, sentence)]
    try:
        text = raw.decode("utf-8")
        values, problems = _parse(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [Problem("info.json", line, "It is not UTF-8 text.")]
    except json.JSONDecodeError as error:
        return None, [Problem("info.json", error.lineno, f"This is not JSON: {error.msg}.")]
    except ValueError:  # Python reads no number of more than some thousand digits
        return None, [Problem("info.json", None, "It holds a number that is too long.")]
    except RecursionError:
        return None, [Problem("info.json", None, "Its JSON is nested too deep.")]
    if not isinstance(values, dict):
        return None, [Problem("info.json", 1, "It must hold one JSON object: { … }.")]
    return _checked(text, values, problems, contract_hint)


@dataclass(frozen=True, slots=True)
class AeTitle:
    """An AE title as info.json says it, and in which line."""

    text: str = ""
    line: int | None = None


def named_ae_title(file: Path) -> AeTitle:
    """Give the AE title that an info.json names, broken or not; an empty one if it cannot be told.

    Of a key that stands twice the last counts, as for a reader of JSON.
    """
    found = list(re.finditer(r'"AETitle"\s*:\s*"([^"\\]{1,16})"', _text_of(file)))
    if not found:
        return AeTitle()
    at = found[-1]
    return AeTitle(at.group(1).strip(" "), at.string.count("\n", 0, at.start()) + 1)


def line_in(file: Path, key: str) -> int | None:
    """Say in which line of an info.json a key stands; None when it cannot be told."""
    return _line_of(_text_of(file), key)


def _text_of(file: Path) -> str:
    try:
        return _beginning_of(file).decode("utf-8", "replace")
    except OSError:
        return ""


def _beginning_of(file: Path) -> bytes:
    """Read no more of a file than tells whether it is too long."""
    with file.open("rb") as opened:
        return opened.read(_LONGEST_FILE + 1)


def _parse(text: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []

    def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                line = _line_of(text, key, last=True)
                problems.append(Problem("info.json", line, f"{key} stands here a second time."))
            if not _is_finite(value):
                sentence = f"{key}: must be a finite number."
                problems.append(Problem("info.json", _line_of(text, key), sentence))
            seen[key] = value
        return seen

    return json.loads(text, object_pairs_hook=no_doubles), problems


def _is_finite(value: Any) -> bool:
    """Say whether a number can be counted with; JSON as Python reads it knows infinity."""
    if isinstance(value, list):
        return all(_is_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


def _checked(
    text: str, values: dict[str, Any], problems: list[Problem], hint: Contract
) -> tuple[StreamInfo | None, list[Problem]]:
    known = {field.alias or name for name, field in StreamInfo.model_fields.items()}
    # A MagickBox image is known by its info.json naming no command.
    meant_as = hint if hint != "brookbox" or values.get("command") else "magickbox"
    is_ours = (values.get("contract") or meant_as) == "brookbox"
    for key in [key for key in values if key not in known]:
        close = difflib.get_close_matches(key, known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        sentence = f"{key} is not a key of info.json.{meant}"
        problems.append(Problem("info.json", _line_of(text, key), sentence, stops=is_ours))
        del values[key]
    if values.get("then"):
        sentence = "then does nothing yet: results are not handed to other streams."
        problems.append(Problem("info.json", _line_of(text, "then"), sentence, stops=False))
    if values.get("enabled") in (0, 1, "0", "1"):
        values["enabled"] = bool(int(values["enabled"]))
    try:
        return StreamInfo.model_validate(values, strict=False), problems
    except ValidationError as error:
        for one in error.errors():
            problem = _of_pydantic(text, one["loc"], one["type"], one.get("ctx", {}), one["msg"])
            if problem not in problems:
                problems.append(problem)
        return None, problems


def _of_pydantic(
    text: str, place: tuple[int | str, ...], kind: str, context: Mapping[str, Any], said: str
) -> Problem:
    key = str(place[0]) if place else ""
    if kind == "missing":
        return Problem("info.json", None, f"{key} is missing.")
    inner = "".join(f"[{part}]" for part in place[1:])
    sentence = f"{key}{inner}: {sentence_of(key, kind, context, said)}."
    return Problem("info.json", _line_of(text, key), sentence)


def _line_of(text: str, key: str, last: bool = False) -> int | None:
    found = list(re.finditer(rf"{re.escape(json.dumps(key, ensure_ascii=False))}\s*:", text))
    if not found:
        return None
    return text.count("\n", 0, found[-1 if last else 0].start()) + 1
