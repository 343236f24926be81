"""``/v1/chat/completions`` and ``/v1/completions``: answers that are written, whole or as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from foreword.errors import SettingsError
from foreword.serve.app.service import Row, Service, unless_gone
from foreword.serve.engine.jobs import Done, Token
from foreword.serve.engine.library import BASE
from foreword.serve.engine.prompting import chat_ids, fields_of_messages, fields_of_text, harmless, row_of
from foreword.serve.engine.sampling import Sampling, sampling_of
from foreword.serve.engine.served import Served
from foreword.serve.wire.api_errors import ApiError, api_error
from foreword.serve.wire.requests import ChatRequest, CompletionRequest, WriteRequest
from foreword.serve.wire.responses import Envelope, usage

router = APIRouter(prefix="/v1")


@router.post("/chat/completions", response_model=None)
async def chat(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation, or the row whose ``fields`` are given."""
    service: Service = request.app.state.service
    form = Envelope(True, body.model)
    served = await service.foreword(body.model, form.id, body.user)
    fields: Mapping[str, Any]
    if body.fields is None and not body.messages:
        raise SettingsError("there is nothing to answer", where="messages", expected="messages, or fields")
    if body.model == BASE:
        if body.fields is not None:
            raise SettingsError("the bare model has no template and so no fields", where="fields")
        served = service.chat
        turns = [message.turn() for message in body.messages]
        ids, fields = await asyncio.to_thread(chat_ids, served.asker.tokenizer, turns), {"messages": turns}
    else:
        _refuse_label(served)
        fields = body.fields or fields_of_messages(served.task, [message.turn() for message in body.messages])
        ids = await _row_ids(service, served, fields)
    form.model = served.name
    told = (body.top_logprobs or 0) if body.logprobs else None
    wanted = body.max_completion_tokens or body.max_tokens
    rows = _rows(service, served, [ids], body, wanted, told)
    return await _answer(service, rows, body, request, form, [fields])


@router.post("/completions", response_model=None)
async def complete(body: CompletionRequest, request: Request) -> Response:
    """Go on with a text: what a foreword's template is about, or the bare model's whole prompt."""
    service: Service = request.app.state.service
    form = Envelope(False, body.model)
    served = await service.foreword(body.model, form.id, body.user)
    fields: list[Mapping[str, Any]]
    if body.fields is None and body.prompt is None:
        raise SettingsError("there is nothing to go on with", where="prompt", expected="a prompt, or fields")
    texts = [] if body.prompt is None else [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if body.model == BASE:
        tokenizer = served.asker.tokenizer
        prompts = [list(tokenizer(str(harmless(tokenizer, t)), add_special_tokens=False)["input_ids"]) for t in texts]
        served = served if served.lead or all(prompts) else _never_empty()
        fields = [{"text": text} for text in texts]
    else:
        _refuse_label(served)
        fields = [body.fields] if body.fields else [fields_of_text(served.task, text) for text in texts]
        prompts = [await _row_ids(service, served, row) for row in fields]
    form.model = served.name
    rows = _rows(service, served, prompts, body, body.max_tokens, body.logprobs)
    return await _answer(service, rows, body, request, form, fields)


def _never_empty() -> Served:
    raise SettingsError("an empty prompt", where="prompt", hint="send some text")


def _refuse_label(served: Served) -> None:
    kind = served.task.kind
    if kind != "generation":
        route = "/v1/tag" if kind == "tagging" else "/v1/classify"
        raise SettingsError(
            f"{served.name} answers with labels, it does not write", where="model", hint=f"POST {route}"
        )


async def _row_ids(service: Service, served: Served, fields: Mapping[str, Any]) -> list[int]:
    first_k = service.library.entry(served.name).first_k
    example = await asyncio.to_thread(row_of, served, fields, first_k)
    return list(example.input_ids)


def _rows(
    service: Service,
    served: Served,
    prompts: Sequence[list[int]],
    body: WriteRequest,
    wanted: int | None,
    told: int | None,
) -> list[Row]:
    """Each prompt ``n`` times; every answer of one prompt has a seed of its own."""
    rows = []
    for ids in prompts:
        sampling = _sampling(service, served, len(ids), body, wanted, told)
        for number in range(body.n):
            seed = None if sampling.seed is None else (sampling.seed + number) % 2**63
            rows.append(Row(served, tuple(ids), replace(sampling, seed=seed), served.name != BASE))
    return rows


def _sampling(
    service: Service, served: Served, length: int, body: WriteRequest, wanted: int | None, told: int | None
) -> Sampling:
    """As the file's task says, but for what the request says itself; the bare model as OpenAI's API has it."""
    bare = served.name == BASE
    default = service.settings.max_tokens if bare else served.task.decoding.max_new_tokens
    room = service.engine.limits.length - length - len(served.lead)
    plain = sampling_of(served.task.decoding, wanted or max(1, min(default, room)))
    if bare:
        plain = replace(plain, temperature=1.0, seed=None)
    asked: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "seed": None if body.seed is None else body.seed % 2**63,
        "min_tokens": body.min_tokens,
        "repetition_penalty": body.repetition_penalty,
        "stop": None if body.stop is None else (body.stop,) if isinstance(body.stop, str) else tuple(body.stop),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    plain = replace(plain, presence_penalty=body.presence_penalty, frequency_penalty=body.frequency_penalty)
    return replace(plain, logprobs=told, **given)


async def _answer(
    service: Service,
    rows: list[Row],
    body: WriteRequest,
    request: Request,
    form: Envelope,
    fields: Sequence[Mapping[str, Any]],
) -> Response:
    """Whole or as a stream; ``fields`` are those of each prompt, for the log."""

    async def ended(texts: Sequence[str]) -> None:
        # The first answer to each prompt; its id is the request's for the first of them.
        for number, row in enumerate(fields):
            name = f"{form.id}-{number}" if number else form.id
            await service.answered(name, rows[0].served, row, texts[number * body.n])

    if body.stream:
        pieces = _stream(service, rows, body, form, ended)
        # The first piece shows whether the engine takes the request: until then a refusal has its status code.
        first = await anext(pieces)
        return StreamingResponse(
            _behind(first, pieces), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    whole = await unless_gone(request, _whole(service, rows, body, form, ended), service.settings.request_seconds)
    return JSONResponse(whole)


def _decoder(rows: list[Row]) -> Any:
    """What gives a token's text; None where no log-probabilities are asked for."""
    tokenizer = rows[0].served.asker.tokenizer
    return None if rows[0].sampling.logprobs is None else lambda token: str(tokenizer.decode([token]))


Ended = Callable[[Sequence[str]], Awaitable[None]]


async def _whole(service: Service, rows: list[Row], body: WriteRequest, form: Envelope, ended: Ended) -> dict[str, Any]:
    texts, whys = [""] * len(rows), [""] * len(rows)
    tokens: list[list[Token]] = [[] for _ in rows]
    async with service.written(rows) as answers:
        async for index, event in answers.events():
            texts[index] += event.text
            if isinstance(event, Token):
                tokens[index].append(event)
            else:
                whys[index] = event.finish
    await ended(texts)
    decode = _decoder(rows)
    choices = [form.choice(i, *part, decode) for i, part in enumerate(zip(texts, tokens, whys, strict=True))]
    return form.whole(choices, usage(answers.jobs, answers.ends, body.n))


async def _stream(
    service: Service, rows: list[Row], body: WriteRequest, form: Envelope, ended: Ended
) -> AsyncIterator[str]:
    decode, chat, texts = _decoder(rows), form.chat, [""] * len(rows)
    try:
        async with asyncio.timeout(service.settings.request_seconds), service.written(rows) as answers:
            yield ""
            for index in range(len(rows) if chat else 0):
                yield _event(form.begin(index))
            async for index, event in answers.events():
                token = event if isinstance(event, Token) else None
                texts[index] += event.text
                if event.text or (token is not None and decode is not None):
                    yield _event(form.chunk(index, token, event.text, None, decode))
                if isinstance(event, Done):
                    yield _event(form.chunk(index, None, "", event.finish, decode))
            if body.stream_options is not None and body.stream_options.include_usage:
                yield _event(form.last(usage(answers.jobs, answers.ends, body.n)))
        await ended(texts)
        yield "data: [DONE]\n\n"
    except TimeoutError:
        seconds = service.settings.request_seconds
        yield _event(ApiError(504, f"no whole answer within {seconds:g} seconds", "timeout").body())


async def _behind(first: str, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    if first:
        yield first
    try:
        async for piece in pieces:
            yield piece
    except Exception as error:
        # The status went out with the first piece; what went wrong can only follow it.
        yield _event(api_error(error).body())
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
