"""Answers in OpenAI's form."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from foreword.serve.engine.jobs import Done, Token, WriteJob

Json = dict[str, Any]


def usage(jobs: Sequence[WriteJob], ends: Sequence[Done], choices: int = 1) -> Json:
    """Tokens of a request; the prompt of ``choices`` answers to one prompt counts once."""
    prompts = jobs[::choices]
    cached = sum(job.served.prefix for job in prompts)
    read = cached + sum(len(job.ids) for job in prompts)
    written = sum(end.written for end in ends)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def read_usage(read: int, cached: int) -> Json:
    """Tokens of a request that is scored."""
    details = {"cached_tokens": cached}
    return {"prompt_tokens": read + cached, "total_tokens": read + cached, "prompt_tokens_details": details}


class Envelope:
    """What every answer or chunk of one request has: id, time, model, and the kind of completion."""

    def __init__(self, chat: bool, model: str) -> None:
        self.chat, self.model = chat, model
        self.id = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
        self.created = int(time.time())

    def _around(self, kind: str, **content: Any) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **content}

    def whole(self, choices: list[Json], tokens: Json) -> Json:
        """A whole answer."""
        kind = "chat.completion" if self.chat else "text_completion"
        return self._around(kind, choices=choices, usage=tokens)

    def choice(self, index: int, text: str, tokens: Sequence[Token], why: str, decode: Any) -> Json:
        """One answer of a whole response; ``decode`` gives a token's text, None where no log-probabilities are
        asked for."""
        shared = {"index": index, "finish_reason": why}
        if self.chat:
            told = None if decode is None else {"content": [chat_logprob(token, decode) for token in tokens]}
            message = {"role": "assistant", "content": text, "refusal": None}
            return {**shared, "message": message, "logprobs": told}
        return {**shared, "text": text, "logprobs": None if decode is None else text_logprobs(tokens, decode)}

    def chunk(self, index: int, token: Token | None, text: str, why: str | None, decode: Any) -> Json:
        """One piece of a stream."""
        some = [] if token is None else [token]
        if self.chat:
            told = None if decode is None or not some else {"content": [chat_logprob(one, decode) for one in some]}
            delta = {"content": text} if text or why is None else {}
            choice: Json = {"index": index, "delta": delta, "logprobs": told, "finish_reason": why}
            return self._around("chat.completion.chunk", choices=[choice])
        logprobs = None if decode is None or not some else text_logprobs(some, decode)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": why}
        return self._around("text_completion", choices=[choice])

    def begin(self, index: int) -> Json:
        """The first chunk of a chat's answer: who speaks."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._around("chat.completion.chunk", choices=[choice])

    def last(self, tokens: Json) -> Json:
        """The chunk with the usage, behind all others."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._around(kind, choices=[], usage=tokens)


def chat_logprob(token: Token, decode: Any) -> Json:
    """A token with its log-probability and its alternatives."""
    top = [_named(decode(word), logp) for word, logp in token.top]
    return {**_named(token.bytes_text, token.logprob), "top_logprobs": top}


def _named(text: str, logp: float) -> Json:
    return {"token": text, "logprob": logp, "bytes": list(text.encode())}


def text_logprobs(tokens: Sequence[Token], decode: Any) -> Json:
    """The older form, of text completions."""
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token.bytes_text)
    return {
        "tokens": [token.bytes_text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{decode(word): logp for word, logp in token.top} for token in tokens],
        "text_offset": offsets,
    }
