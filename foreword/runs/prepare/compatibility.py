"""What must go together: the task, the method, and the base."""

from __future__ import annotations

from foreword.core.base.load import Base, Outline
from foreword.core.passes.masked_scores import refuse_headless
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.encode_row import slot_starts
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.methods.base import Method
from foreword.training.objective import make_objective


def refuse_mismatch(task: Task, method: Method, base: Outline | Base) -> None:
    """Refuse what this method and base cannot do, by name: before its weights are loaded, where its outline is known.

    Raises:
        SettingsError: kind of base, template, labels and method do not go together.
        TemplateError, VerbalizerError: as :func:`refuse_task`.
    """
    refuse_task(task, base)
    if task.head and not method.learning_rates:
        raise SettingsError(
            "a text cannot train the head that this task asks for", where="--method", hint="use `--method prefix`"
        )
    if base.kind not in method.kinds:
        raise SettingsError(
            Message("method {name} does not work on a base of the kind {kind}", name=method.name, kind=base.kind),
            where="--method",
        )
    _slots_fit(task, method)


def _refuse_wordless(task: Task, base: Outline | Base) -> None:
    if base.language_head or (task.has_labels and task.head) or task.kind == "tagging":
        return
    raise SettingsError(
        Message("{architecture} ends in a classification head: it has no words to answer with",
                architecture=base.architecture),
        where="--base",
        hint="classify with a trained head: `--set head=true`, or choose the checkpoint with its language head",
    )  # fmt: skip


def refuse_task(task: Task, base: Outline | Base) -> None:
    """Refuse a task that this base cannot be asked, whatever the method.

    Raises:
        SettingsError: kind of base, template and labels do not go together.
        TemplateError: a place of the template that this tokenizer cannot fill.
        VerbalizerError: label words that this tokenizer cannot tell apart.
    """
    _refuse_wordless(task, base)
    if task.kind == "generation" and base.kind == "encoder":
        raise SettingsError(
            Message("{architecture} is an encoder and cannot generate", architecture=base.architecture),
            where="--base",
            hint="choose a decoder or an encoder-decoder, or give the data labels to classify by",
        )
    if task.masked and base.kind != "encoder":
        raise SettingsError(
            Message(
                "{architecture} is no masked language model, which {{{{ mask }}}} asks", architecture=base.architecture
            ),
            where="template",
            expected="an encoder such as BERT or RoBERTa",
            received=f"a base of the kind {base.kind}",
            hint="end the template where the answer begins",
        )
    if task.masked and isinstance(base, Base):
        refuse_headless(base.model)
    if task.has_labels and not (task.head or task.masked) and base.kind == "encoder":
        raise SettingsError(
            Message("{architecture} is an encoder: it has no words to answer with", architecture=base.architecture),
            where="--base",
            hint="classify with a trained head: `--set head=true`, or let the template say where the word belongs: "
            "`{{ mask }}`",
        )
    if base.kind == "encoder-decoder":
        _refuse_encoder_decoder(task, base)
    if task.guidance_in_row and not (task.guidance.strip() or task.guidance_column):
        raise SettingsError(
            "there is no guidance to bring in gradually", where="guidance_share", hint="give some with --guidance"
        )
    slot_starts(task, base.tokenizer)
    make_objective(task, base.tokenizer)


def _refuse_encoder_decoder(task: Task, base: Outline | Base) -> None:
    if task.kind == "tagging":
        raise SettingsError(
            Message(
                "{architecture} is an encoder-decoder; words are tagged with an encoder or a decoder",
                architecture=base.architecture,
            ),
            where="--base",
            hint="choose a base such as BERT, RoBERTa, ModernBERT or MiniLM",
        )
    if task.head and task.has_labels:
        raise SettingsError(
            Message(
                "{architecture} is an encoder-decoder; it classifies by the words that it writes",
                architecture=base.architecture,
            ),
            where="head",
            expected="an encoder or a decoder, for a trained head",
            hint="leave head out",
        )


def _slots_fit(task: Task, method: Method) -> None:
    """A template has soft slots exactly when its method trains them."""
    soft = parsed(task.template).soft
    if soft and not method.fills_slots:
        raise SettingsError(
            Message("the template has soft slots, which method {name} does not train", name=method.name),
            where="--method",
            hint="use `--method slots`, or write words in their place",
        )
    if method.fills_slots and not soft:
        raise SettingsError(
            Message("method {name} trains the soft slots of a template, and this one has none", name=method.name),
            where="template",
            hint='write {{ soft(8) }} or {{ soft("some words") }} into it, or use `--method prefix`',
        )
