"""How much of what the base can read is taken by what stands in front of a row."""

from __future__ import annotations

from foreword.core.base.load import Base
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.evaluation.predict import Asker
from foreword.methods.base import Method, Start, make_writer


def taken(value: Foreword, asker: Asker) -> int:
    """How many of the base's positions stand in front of a row's own tokens.

    Keys and values take none of an encoder's; a soft prompt does.
    """
    if value.sites and not find_sites(asker.model).moves_positions:
        return 0
    return value.num_virtual_tokens or len(asker.lead(value))


def most_taken(start: Start, method: Method, base: Base, asker: Asker) -> int:
    """The most positions that a run needs in front: those of the prompt, or of what is learned instead.

    Raises:
        SettingsError: more virtual tokens than the base reads, or settings that do not fit the base.
        UnsupportedBaseError: the base cannot be given what the method writes.
    """
    wanted = method.settings().get("num_virtual_tokens")
    if wanted is not None and base.context is not None and wanted >= base.context:
        raise SettingsError(
            "more virtual tokens than the base reads",
            where="num_virtual_tokens",
            expected=f"less than {base.context}",
            received=wanted,
        )
    # A head has no prompt to be compared with.
    prompt = 0 if start.classes else len(asker.lead(Foreword(text=start.text)))
    value = make_writer(method, start).write().detach()
    with injected(base.model, [value]):
        return max(prompt, taken(value, asker))
