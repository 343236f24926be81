"""What a distillation is asked to do beyond what training is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from foreword.errors import SettingsError
from foreword.settings.schema import Count
from foreword.settings.values import Range, settle


@dataclass(frozen=True)
class DistillSettings:
    """The teacher, one of three, and the student. Raises SettingsError for values that cannot be.

    Args:
        prompt_file: a text file that stands in front of every row.
        shots: so many training rows with their answers stand there.
        document: a text file that rows ask about; without rows, the base asks itself.
        num_virtual_tokens: P of the student.
        start: what the student begins as: the teacher's keys and values thinned by attention matching, its first P
            tokens, or chance.
        top_k: words of the teacher's distribution that are kept at every place of a written answer.
        questions: that the base asks itself about a document, where no rows are given.
        margin: points within which the student is as good as the teacher.

    >>> from foreword.api import DistillSettings
    >>> DistillSettings(shots=4, num_virtual_tokens=16).margin
    2.0
    """

    prompt_file: str | None = None
    shots: Annotated[int, Range(least=0)] = 0
    document: str | None = None
    num_virtual_tokens: Count = 32
    start: Literal["match", "first", "random"] = "match"
    top_k: Count = 32
    questions: Count = 200
    margin: Annotated[float, Range(above=0)] = 2.0

    def __post_init__(self) -> None:
        settle(self)
        given = [self.prompt_file is not None, self.shots > 0, self.document is not None]
        if sum(given) != 1:
            raise SettingsError(
                "a distillation has one teacher",
                where="--teacher-prompt, --shots, --document",
                expected="one of them",
                received="none of them" if not any(given) else "several",
                hint="--shots 16 puts 16 labelled rows in front of each row",
            )

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        return asdict(self)
