"""What a comparison begins with, the same in every process that works at it: its methods, and its rows."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.methods.base import Method, make, registry
from foreword.runs.prepare.prepare import Prepared, prepare, with_rows
from foreword.settings.schema import TrainRequest
from foreword.studies.compare.plan import Plan
from foreword.studies.compare.settings import CompareOptions


def methods_of(request: TrainRequest, options: CompareOptions) -> dict[str, Method]:
    """The methods to train. Raises SettingsError for one that is not there or cannot be trained."""
    slots = "soft(" in (request.task_options.template or "")
    every = [n for n, m in registry().items() if m.learning_rates and m.fills_slots == slots]
    names = list(dict.fromkeys(options.methods)) or every
    made = {name: make(name, request.method_settings if name == request.method else {}) for name in names}
    for name, method in made.items():
        if not method.learning_rates:
            raise SettingsError(
                Message("the method {name} is not trained", name=name), where="--methods", expected=", ".join(every)
            )
    return made


def prepared_for(request: TrainRequest, methods: Mapping[str, Method]) -> Prepared:
    """Everything checked and loaded, for all the methods. Raises what prepare does."""
    first = next(iter(methods))
    return prepare(replace(request, method=first, method_settings=methods[first].settings(), init_from=None))


def planned_rows(prepared: Prepared, plan: Plan) -> Prepared:
    """The same with the rows of the plan."""
    dice = random.Random(prepared.request.task_options.split_seed)
    chosen = {}
    for split, count in plan.rows.items():
        every = range(len(prepared.examples[split]))
        chosen[split] = sorted(dice.sample(every, count)) if count < len(every) else list(every)
    return with_rows(prepared, chosen)
