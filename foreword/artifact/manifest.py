"""The manifest: everything a .foreword file says about itself, as one strict JSON document.

Field by field in docs/file-format.md. Nothing is coerced and nothing is ignored: an unknown field, a number where a
text belongs or a version that this program does not know are errors, because a file that is half understood is not
understood.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from foreword.artifact.header import refuser, strict_json
from foreword.messages import Message

# What is listed on a terminal or a page: no control characters, and none that turn the direction of writing.
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$", max_length=4096)]
FORMAT_VERSION = 2
MAX_GOLDEN = 16


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class BaseRecord(_Strict):
    """The base model that the foreword was trained on.

    Attributes:
        id: hub id, or the name of the folder or file.
        revision: commit of the hub repository; None for a local folder or file.
        architecture: class name of the model, for example ``LlamaForCausalLM``.
        kind: what the model is.
        fingerprint: part -> SHA-256 in hex; the parts are config, tokenizer, chat_template (or ``none``) and weights.
    """

    id: Line
    revision: Line | None = None
    architecture: Line
    kind: Literal["decoder", "encoder", "encoder-decoder"]
    fingerprint: dict[Line, Line] = Field(default_factory=dict)


class MetricRecord(_Strict):
    """A measured value with its interval ``[low, high]`` at ``level`` (0 to 1), over ``rows`` rows."""

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None
    rows: int = 0


class Golden(_Strict):
    """A row with the answer that it had when the file was written; ``foreword verify`` asks again.

    Attributes:
        input: the row's fields.
        input_ids: the token ids that the base was given after the foreword.
        output: the answer.
        scores: one log-probability or probability per label; None for generation.
    """

    input: dict[str, JsonValue]
    input_ids: list[int]
    output: str
    scores: list[float] | None = None


class Manifest(_Strict):
    """What a .foreword file says about itself.

    Attributes:
        format_version: the version of the format; :func:`foreword.artifact.store.save` sets the lowest that will do.
        base: the base model.
        method: name of the method that wrote the foreword.
        settings: settings of the method and of the training.
        task: template, guidance, verbalizer, metric and decoding, as the data room writes a task; order matters.
        positions: ``cache``: keys are rotated for positions 0..P-1 and content starts at P; ``content``: content at 0.
        data_lock: which rows were in which split.
        metrics: name -> value on the test split.
        golden: up to 16 rows with expected answers.
        text: guidance text that is put in front of the row as tokens.
        created: ISO 8601 date, with or without time.
        libraries: library -> version at the time of writing.
        license: licence of the foreword, one line.
        notes: free text.
    """

    format_version: Literal[1, 2] = 1
    base: BaseRecord
    method: Line
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    task: dict[str, JsonValue] = Field(default_factory=dict)
    positions: Literal["cache", "content"] = "cache"
    data_lock: dict[str, JsonValue] = Field(default_factory=dict)
    metrics: dict[Line, MetricRecord] = Field(default_factory=dict)
    golden: Annotated[list[Golden], Field(max_length=MAX_GOLDEN)] = Field(default_factory=list)
    text: str = ""
    created: str = ""
    libraries: dict[Line, Line] = Field(default_factory=dict)
    license: Line = ""
    notes: str = ""

    @field_validator("created")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        if value:
            datetime.fromisoformat(value)
        return value

    @property
    def dtype(self) -> str | None:
        """The number format of the base that the answers in the file are of; None where the file does not say."""
        training = self.settings.get("training")
        known = self.settings.get("dtype") or (training.get("dtype") if isinstance(training, dict) else None)
        return None if known in (None, "auto") else str(known)

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {figure.value:.3g}" for name, figure in self.metrics.items())
        parts = [self.method, f"on {self.base.id}", figures, f"{len(self.golden)} golden rows", self.created]
        return f"Manifest({'; '.join(part for part in parts if part)})"

    def to_json_text(self) -> str:
        """The manifest as compact JSON in the order of the fields; equal manifests give equal texts."""
        return self.model_dump_json()

    @classmethod
    def from_json_text(cls, text: str, where: str | Path = "manifest") -> Manifest:
        """Parse and check a manifest; ``where`` is named in the error.

        Raises:
            FileFormatError: not JSON with one meaning, an unknown version, an unknown or missing field, a wrong type.
        """
        refuse = refuser(os.fspath(where))
        try:
            fields = strict_json(text)
        except ValueError as error:
            raise refuse(f"the manifest is not valid JSON: {error}") from error
        if not isinstance(fields, dict):
            raise refuse("the manifest is not a JSON object", received=type(fields).__name__)
        # The version first: what the other fields mean depends on it.
        version = fields.get("format_version")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            newer = type(version) is int and version > FORMAT_VERSION
            raise refuse(
                "the file has a format version that this program does not know",
                expected=Message("1 to {last}", last=FORMAT_VERSION),
                received=repr(version)[:40],
                hint="it was written by a newer foreword: upgrade with pip install -U foreword" if newer else "",
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise refuse(f"the manifest is not valid at {place[:120]!r}: {first['msg'][:200]}") from error
        except RecursionError as error:
            raise refuse("the manifest is nested too deeply") from error
