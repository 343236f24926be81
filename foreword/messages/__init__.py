"""Texts for people, in English and in the languages of the catalogues beside this file (``zh/*.toml``)."""

from foreword.messages.catalogue import known_ids, languages, template
from foreword.messages.message import Message, index_of, restored, said_in, stored
from foreword.messages.spoken import language, language_of, say, say_if_known, speaking

__all__ = [
    "languages",
    "Message",
    "index_of",
    "known_ids",
    "language",
    "language_of",
    "restored",
    "said_in",
    "say",
    "say_if_known",
    "speaking",
    "stored",
    "template",
]
