"""What a training run came to, for the caller; which base and which versions it depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from foreword.artifact.manifest import BaseRecord
from foreword.evaluation.report.figures import Shown

if TYPE_CHECKING:
    from foreword.core.base.load import Base
    from foreword.core.inject.value import Foreword
    from foreword.evaluation.prediction_files import Predictions
    from foreword.evaluation.report.figures import Figures

_LIBRARIES = ("foreword", "torch", "transformers", "tokenizers", "safetensors")


@dataclass(frozen=True, repr=False)
class TrainResult(Shown):
    """What a run came to.

    Args:
        file: the ``.foreword`` file.
        outcome: ``"learned"``, or ``"text"`` where nothing beat the prompt on dev.
        systems: name (``prompt``, ``foreword``) -> figures on the test split (see ``evaluation.summary.evaluate``).
        difference: foreword minus prompt on test, paired; None without a test split or a prompt to compare with.
        dev: the dev score that chose it; ``floor`` is the prompt's.
        learning_rate: the winner's; None for a text.
        alarms: what the user should know.
        state: what was shown (``better``, ``worse``, ``nothing_learned``, ...: evaluation.report.verdict_text).
        verdict: the same in sentences, the first of which says it all.
        course: what sampling and augmentation did to the training rows, and with ``ablate`` what they gained on dev.
        seconds: wall time of the whole run.
        guidance: where it was brought in gradually, the dev metric of each system ``with`` and ``without`` it.

    >>> from foreword.api import resume
    >>> result = resume("finished", progress=lambda *_, **__: None)
    >>> result.metric, sorted(result.rows)
    ('accuracy', ['dev', 'test', 'train'])
    """

    file: str
    outcome: str
    metric: str
    systems: dict[str, Any]
    difference: dict[str, Any] | None
    dev: float | None
    floor: float | None
    learning_rate: float | None
    bytes: int
    num_values: int
    rows: dict[str, int]
    alarms: list[str] = field(default_factory=list)
    state: str = "measured"
    verdict: list[str] = field(default_factory=list)
    course: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    guidance: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def foreword(self) -> Foreword:
        """The value in the file."""
        from foreword.artifact.store import load

        return load(self.file)[0]

    def predict(self, data: object = None, **options: Any) -> Predictions:
        """:func:`foreword.predict` with this run's file."""
        from foreword.runs.use.use import predict

        return predict(self.file, data, **options)

    def evaluate(self, data: object, **options: Any) -> Figures:
        """:func:`foreword.evaluate` with this run's file."""
        from foreword.runs.use.use import evaluate

        return evaluate(self.file, data, **options)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        del values["text"]
        return values

    def __str__(self) -> str:
        return self.text

    def render(self) -> str:
        """For people."""
        return self.text


def record_of(base: Base) -> BaseRecord:
    """What a file says of its base."""
    return BaseRecord(
        id=base.id,
        revision=base.revision,
        architecture=base.architecture,
        kind=base.kind,
        fingerprint=base.fingerprint,
    )


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
