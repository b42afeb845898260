"""Many prompts from a file, answered side by side: one line in, one line out, in order.

{"prompt": "Once upon"}                                              {"line": 1, "text": " a time", "finish_reason": ...
{"id": 7, "messages": [...], "max_tokens": 9}   ─▶ engine ─▶         {"line": 2, "id": 7, "text": ...
{"prompt": 5}                                                        {"line": 3, "error": "prompt must be a text ..."}

Lines are read as they are needed, and what is answered before its turn waits, up to MOST_WAITING lines: memory does not
grow with the file. The seed of a line is the seed given plus its place, so that a line's answer does not depend on
where a run was stopped.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ownlm.engine import Ticket
from ownlm.errors import OwnlmError
from ownlm.opened.answer import answers_of
from ownlm.opened.asked import GRAMMARS, make_request
from ownlm.opened.batch_file import Answers, check_places, open_prompts, read_object
from ownlm.opened.model import Model

MOST_WAITING = 4096
# In the engine at once, for each text that it writes side by side: so that it never waits for a line.
_QUEUED = 2


@dataclass(kw_only=True)
class BatchProgress:
    """Lines of `total` that are written, `before` of them by an earlier run; this run's errors and tokens."""

    total: int
    before: int
    done: int
    errors: int = 0
    tokens: int = 0


def generate_file(
    model: Model,
    source: Path,
    out: Path,
    *,
    asked: Mapping[str, Any],
    force: bool = False,
    progress: Callable[[BatchProgress], None] | None = None,
) -> BatchProgress:
    """Answer every line of `source` in `out`; what an earlier run of the same has written stays and is gone on with.

    `asked` are keywords as for Model.generate, but no adapter; a line may say otherwise. With n above 1 there are
    "choices".
    """
    check_places(source, out)
    prompts = open_prompts(source)
    # What is wrong for every line is told once, before anything is written.
    checked = make_request([], asked)
    checked.sampling.check_ids(model.engine.runner.width)
    if checked.grammar is not None:
        model.engine.grammars.compile(checked.grammar)
    settings = {name: asdict(value) if name == "grammar" and value else value for name, value in asked.items()}
    answers = Answers(
        out,
        {
            "input": prompts.sha256,
            "model": model.name,
            "files": model.files.fingerprint(),
            "adapter": model.adapter and model.adapter.digest(),
            "arithmetic": model.arithmetic,
            "settings": settings,
        },
        force=force,
    )
    try:
        state = BatchProgress(total=prompts.count, before=answers.done, done=answers.done)
        for record in _records(model, enumerate(prompts.lines(answers.done), start=answers.done), asked):
            answers.write(record)
            state.done += 1
            state.errors += "error" in record
            state.tokens += record.get("usage", {}).get("completion_tokens", 0)
            if progress is not None:
                progress(state)
        answers.finish()
    finally:
        answers.close()
    return state


@dataclass(kw_only=True)
class _Line:
    """`record` is what is written of it, once that is known."""

    names: dict[str, Any]
    text: str = ""
    ticket: Ticket | None = None
    record: dict[str, Any] | None = None


def _records(model: Model, lines: Iterable[tuple[int, bytes]], asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    engine, unread = model.engine, iter(lines)
    waiting: deque[_Line] = deque()
    going: dict[int, _Line] = {}
    more = True
    try:
        while more or waiting:
            while more and len(waiting) < MOST_WAITING and len(going) < _QUEUED * engine.config.max_sequences:
                numbered = next(unread, None)
                if numbered is None:
                    more = False
                    break
                line = _begin(model, *numbered, asked)
                waiting.append(line)
                if line.ticket is not None:
                    going[line.ticket.id] = line
            while waiting and waiting[0].record is not None:
                yield waiting.popleft().record or {}
            for ticket in engine.step():
                if ticket.finished:
                    # A ticket may be somebody else's who shares the engine.
                    answered = going.pop(ticket.id, None)
                    if answered is not None:
                        answered.record = answered.names | _answered(model, ticket, answered.text)
    finally:
        for line in going.values():
            assert line.ticket is not None
            engine.cancel(line.ticket)


def _begin(model: Model, place: int, line: bytes, asked: Mapping[str, Any]) -> _Line:
    """The line on its way through the engine; or, where it cannot be, with the reason as its record."""
    begun = _Line(names={"line": place + 1})
    try:
        fields = read_object(line)
        if "id" in fields:
            begun.names["id"] = fields.pop("id")
        prompt, begun.text = _prompt(model, fields)
        begun.ticket = model.engine.add(
            make_request(prompt, {"adapter": model.adapter, **_settings(fields, asked, place)})
        )
    except OwnlmError as error:
        begun.record = begun.names | {"error": str(error)}
    return begun


def _prompt(model: Model, fields: dict[str, Any]) -> tuple[list[int], str]:
    """Ids and text of what a line asks, taken out of its fields."""
    if ("prompt" in fields) == ("messages" in fields):
        raise OwnlmError('a line has either "prompt", a text to continue, or "messages", a conversation to answer')
    if "prompt" in fields:
        text = fields.pop("prompt")
        if not isinstance(text, str):
            raise OwnlmError(f"prompt must be a text, got {type(text).__name__}")
        return model.tokenizer.prompt_ids(text), text
    messages = fields.pop("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise OwnlmError('messages must be a list such as [{"role": "user", "content": "Hello"}]')
    ids = model.chat_prompt(messages)
    return ids, model.tokenizer.decode(ids)


def _settings(fields: Mapping[str, Any], asked: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The command's settings under the line's own."""
    if barred := {"grammar", "adapter", "priority"} & fields.keys():
        raise OwnlmError(f"a line cannot set {sorted(barred)[0]}; json_schema, regex and choices it can")
    settings = dict(asked)
    if fields.keys() & set(GRAMMARS):
        settings = {name: value for name, value in settings.items() if name not in GRAMMARS}
    if settings.get("seed") is not None:
        # The answers to a prompt have seeds of their own, one after another: a line's are behind those before it.
        settings["seed"] += place * settings.get("n", 1)
    return settings | dict(fields)


def _answered(model: Model, ticket: Ticket, prompt: str) -> dict[str, Any]:
    try:
        whole = answers_of(ticket, prompt, speculated=model.engine.speculator is not None)
    except OwnlmError as error:
        return {"error": str(error)}
    answers = [asdict(answer) for answer in whole]
    for answer in answers:
        if ticket.request.sampling.logprobs is None:
            # Numbers for every token, which nobody asked for.
            for name in ("token_ids", "logprobs", "top_logprobs", "text_offsets"):
                del answer[name]
        if answer["prompt_logprobs"] is None:
            del answer["prompt_logprobs"]
    if len(answers) == 1:
        return answers[0]
    counts = [answer.pop("usage") for answer in answers]
    total = counts[0] | {"completion_tokens": sum(count["completion_tokens"] for count in counts)}
    return {"choices": answers, "usage": total}
