"""The house as a whole: from a data file to a foreword and back; the command line and Python call the same
functions."""

from __future__ import annotations

from foreword.run.estimate import dry_run
from foreword.run.facts import doctor, ls, show
from foreword.run.feedback import FeedbackResult, feedback
from foreword.run.folds import FoldsResult, cross_validate
from foreword.run.folds import resume as resume_folds
from foreword.run.make_base import base
from foreword.run.many import Workers, predict_all, run_all
from foreword.run.prepare import check
from foreword.run.sweep import sweep
from foreword.run.train import TrainResult, resume, train
from foreword.run.transfer import transfer
from foreword.run.use import VerifyReport, evaluate, generate, predict, verify

__all__ = [
    "FeedbackResult", "FoldsResult", "TrainResult", "VerifyReport", "Workers", "base", "check", "cross_validate",
    "doctor", "dry_run", "evaluate", "feedback", "generate", "ls", "predict", "predict_all", "resume", "resume_folds",
    "run_all", "show", "sweep", "train", "transfer", "verify",
]  # fmt: skip
