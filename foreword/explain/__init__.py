"""What a foreword says and does: its nearest words, what each part of it is worth, where attention goes, and a text
that answers like it."""

from foreword.explain.result import Explained
from foreword.explain.run import explain

__all__ = ["Explained", "explain"]
