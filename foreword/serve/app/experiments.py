"""Two forewords behind one name: each request goes to one of them, and the feedback that comes back says which is
better, when that can be said.

What was learned is a file of lines, one a score, which is read again when the server starts. It holds no text.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foreword.artifact.safe_files import read_regular
from foreword.errors import SettingsError
from foreword.evaluation.statistics.sequential_test import Arm, SequentialTest
from foreword.serve.engine.library import UnknownAnswerError, checked_name

# Answers whose feedback can still come.
_REMEMBERED = 100_000
_MAX_FILE = 256 << 20


@dataclass
class Experiment:
    """A name behind which two forewords stand.

    Args:
        share: of the requests that go to ``b``.
    """

    name: str
    a: str
    b: str
    share: float = 0.5
    test: SequentialTest = field(default_factory=SequentialTest)
    scores: dict[Arm, list[float]] = field(default_factory=lambda: {"a": [0, 0.0], "b": [0, 0.0]})

    def arm(self, user: str | None) -> Arm:
        """Whose turn it is: drawn for each request, or once for each user."""
        if user is None:
            return "b" if secrets.randbelow(1 << 30) < self.share * (1 << 30) else "a"
        drawn = hashlib.sha256(f"{self.name}/{user}".encode()).digest()
        return "b" if int.from_bytes(drawn[:4], "big") < self.share * (1 << 32) else "a"

    def model(self, arm: Arm) -> str:
        """The foreword that stands for an arm."""
        return self.a if arm == "a" else self.b

    def add(self, arm: Arm, score: float) -> None:
        """One more score."""
        self.test.add(arm, score)
        self.scores[arm][0] += 1
        self.scores[arm][1] += score

    def to_json(self) -> dict[str, Any]:
        """Where it stands."""
        arms: dict[str, Any] = {
            arm: {"model": self.model(arm), "scores": int(count), "mean": total / count if count else None}
            for arm, (count, total) in self.scores.items()
        }
        result = asdict(self.test.result())
        better = result.pop("better")
        return {"id": self.name, "share": self.share, **arms, **result, "better": better and self.model(better)}


def parse(text: str) -> Experiment:
    """``NAME=A,B`` or ``NAME=A,B,SHARE``.

    Raises:
        SettingsError: it is neither.
    """
    name, equals, rest = text.partition("=")
    parts = rest.split(",")
    try:
        share = float(parts[2]) if len(parts) == 3 else 0.5
    except ValueError:
        share = -1.0
    if not equals or len(parts) not in (2, 3) or not 0 < share < 1 or parts[0] == parts[1]:
        raise SettingsError(
            "a split says which two forewords stand behind a name",
            where="--split",
            expected="NAME=A,B or NAME=A,B,SHARE, SHARE of the requests to B between 0 and 1",
            received=text[:200],
        )
    return Experiment(checked_name(name), parts[0], parts[1], share)


class Experiments:
    """Every experiment of a server.

    Args:
        file: where scores are kept; None: nowhere.

    Raises:
        SettingsError: two of one name, or a line of the file that is no score.
    """

    def __init__(self, experiments: Iterable[Experiment] = (), file: Path | None = None) -> None:
        self._by_name: dict[str, Experiment] = {}
        for experiment in experiments:
            if experiment.name in self._by_name:
                raise SettingsError("two splits have one name", where="--split", received=experiment.name)
            self._by_name[experiment.name] = experiment
        self._file, self._lock = file, threading.Lock()
        self._given: OrderedDict[str, tuple[Experiment, Arm]] = OrderedDict()
        if file is not None and file.exists():
            self._replay(file)

    def _replay(self, file: Path) -> None:
        for number, line in enumerate(read_regular(file, _MAX_FILE).decode("utf-8", "replace").splitlines(), 1):
            try:
                entry = json.loads(line)
                experiment = self._by_name.get(entry["experiment"])
                arms: dict[str, Arm] = {} if experiment is None else {experiment.a: "a", experiment.b: "b"}
                if experiment is not None and entry["model"] in arms:
                    experiment.add(arms[entry["model"]], float(entry["score"]))
            except (ValueError, KeyError, TypeError) as error:
                raise SettingsError("a line of the feedback is no score", where=f"{file}:{number}") from error

    def names(self) -> list[str]:
        """The names that experiments answer to."""
        return list(self._by_name)

    def all(self) -> list[Experiment]:
        """Every experiment."""
        return list(self._by_name.values())

    def choose(self, model: str, answer: str, user: str | None = None) -> str:
        """The foreword that answers a request for ``model``; ``answer`` is the id that feedback will name."""
        experiment = self._by_name.get(model)
        if experiment is None:
            return model
        arm = experiment.arm(user)
        with self._lock:
            self._given[answer] = (experiment, arm)
            while len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
        return experiment.model(arm)

    def gave(self, answer: str) -> bool:
        """Whether an experiment gave this answer and its feedback has not come yet."""
        with self._lock:
            return answer in self._given

    def feedback(self, answer: str, score: float) -> Experiment:
        """Count a score for an answer, once.

        Raises:
            UnknownAnswerError: no experiment gave it, its feedback has come already, or it is forgotten.
        """
        with self._lock:
            given = self._given.pop(answer, None)
            if given is None:
                raise UnknownAnswerError(
                    "feedback for an answer that is not known",
                    received=answer[:80],
                    hint="send the id of an answer of a split, once",
                )
            experiment, arm = given
            experiment.add(arm, score)
            if self._file is not None:
                entry = {"experiment": experiment.name, "model": experiment.model(arm), "score": score}
                with self._file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({**entry, "time": int(time.time())}) + "\n")
        return experiment
