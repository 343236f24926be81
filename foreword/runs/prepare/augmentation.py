"""The settings of sampling and augmentation as what works, refused before a base is loaded where they cannot be."""

from __future__ import annotations

from foreword.data.quality.augment import Augmenter, read_synonyms
from foreword.data.quality.row_sampling import refuse_sampling
from foreword.data.task.task import Task
from foreword.errors import SettingsError
from foreword.settings.schema import TrainSettings


def augmenter_of(settings: TrainSettings, task: Task) -> Augmenter | None:
    """What varies the training rows; None where nothing does.

    Raises:
        SettingsError: an unknown form, or one without what it needs.
        DataError: the synonyms cannot be read.
    """
    file = settings.augment_synonyms
    if not settings.augment and file is None and not settings.augment_templates:
        return None
    return Augmenter(
        task,
        settings.augment,
        settings.augment_share,
        settings.augment_dropout,
        {} if file is None else read_synonyms(file),
        settings.augment_templates,
        settings.seed,
    )


def refuse_course(settings: TrainSettings, task: Task) -> None:
    """Refuse sampling and augmentation that this task cannot have.

    Raises:
        SettingsError, DataError: as :func:`augmenter_of`; or there is nothing that ``ablate`` could leave out.
    """
    refuse_sampling(settings.sampling, task)
    if augmenter_of(settings, task) is None and settings.sampling == "shuffle" and settings.ablate:
        hint = "it compares a run with sampling or augment with one without"
        raise SettingsError("there is nothing to leave out", where="ablate", hint=hint)
