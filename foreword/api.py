"""What Python users and the command line call: one name a thing that can be done, loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foreword.artifact.store import load, save
    from foreword.core.base.load import load_base
    from foreword.core.inject.injection import injected
    from foreword.core.inject.value import Foreword
    from foreword.data.readers.read import read
    from foreword.export.convert import export, import_
    from foreword.runs.prepare.check_data import check
    from foreword.runs.train.dry_run import dry_run
    from foreword.runs.train.result import TrainResult
    from foreword.runs.train.train import resume, train
    from foreword.runs.train.train_base import base
    from foreword.runs.use.inspect_files import doctor, ls, show
    from foreword.runs.use.use import evaluate, generate, predict
    from foreword.runs.use.verify import VerifyReport, verify
    from foreword.runs.workers.pool import Workers, predict_all, run_all
    from foreword.serve.app.chat_session import chat
    from foreword.serve.app.run_server import serve
    from foreword.studies.cross_validation import FoldsResult, cross_validate, resume_folds
    from foreword.studies.distill.distill import distill, resume_distillation
    from foreword.studies.distill.distill_result import DistillResult
    from foreword.studies.distill.settings import DistillSettings
    from foreword.studies.feedback.feedback import FeedbackResult, feedback
    from foreword.studies.input_length import sweep
    from foreword.studies.transfer.transfer import transfer
    from foreword.training.attach import attach

# name -> where it is defined.
HOME = {
    "DistillResult": "foreword.studies.distill.distill_result",
    "DistillSettings": "foreword.studies.distill.settings",
    "FeedbackResult": "foreword.studies.feedback.feedback",
    "FoldsResult": "foreword.studies.cross_validation",
    "Foreword": "foreword.core.inject.value",
    "TrainResult": "foreword.runs.train.result",
    "VerifyReport": "foreword.runs.use.verify",
    "Workers": "foreword.runs.workers.pool",
    "attach": "foreword.training.attach",
    "base": "foreword.runs.train.train_base",
    "chat": "foreword.serve.app.chat_session",
    "check": "foreword.runs.prepare.check_data",
    "cross_validate": "foreword.studies.cross_validation",
    "distill": "foreword.studies.distill.distill",
    "doctor": "foreword.runs.use.inspect_files",
    "dry_run": "foreword.runs.train.dry_run",
    "evaluate": "foreword.runs.use.use",
    "export": "foreword.export.convert",
    "feedback": "foreword.studies.feedback.feedback",
    "generate": "foreword.runs.use.use",
    "import_": "foreword.export.convert",
    "injected": "foreword.core.inject.injection",
    "load": "foreword.artifact.store",
    "load_base": "foreword.core.base.load",
    "ls": "foreword.runs.use.inspect_files",
    "predict": "foreword.runs.use.use",
    "predict_all": "foreword.runs.workers.pool",
    "read": "foreword.data.readers.read",
    "resume": "foreword.runs.train.train",
    "resume_distillation": "foreword.studies.distill.distill",
    "resume_folds": "foreword.studies.cross_validation",
    "run_all": "foreword.runs.workers.pool",
    "save": "foreword.artifact.store",
    "serve": "foreword.serve.app.run_server",
    "show": "foreword.runs.use.inspect_files",
    "sweep": "foreword.studies.input_length",
    "train": "foreword.runs.train.train",
    "transfer": "foreword.studies.transfer.transfer",
    "verify": "foreword.runs.use.verify",
}
__all__ = [
    "DistillResult", "DistillSettings", "FeedbackResult", "FoldsResult", "Foreword", "TrainResult", "VerifyReport",
    "Workers", "attach", "base", "chat", "check", "cross_validate", "distill", "doctor", "dry_run", "evaluate",
    "export", "feedback", "generate", "import_", "injected", "load", "load_base", "ls", "predict", "predict_all",
    "read", "resume", "resume_distillation", "resume_folds", "run_all", "save", "serve", "show", "sweep", "train",
    "transfer", "verify",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in HOME:
        raise AttributeError(f"module 'foreword.api' has no attribute {name!r}")
    value: object = getattr(import_module(HOME[name]), name)
    globals()[name] = value
    return value
