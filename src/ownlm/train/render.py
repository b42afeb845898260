"""One line of a conversations file as examples: ids, and for each whether it is trained.

    {"messages": [...], "tools": [...]}   through the model's chat template: the answers are trained
    {"text": "..."}                       a document: every token is trained, the one that ends it too

What is longer than the context:
    a document        is cut into several examples; each token is a target in exactly one of them
    a conversation    loses whole turns from its beginning, up to a question; system turns stay
    a last exchange   that is too long by itself keeps its beginning if that holds the question in its first half
                      (the answer is learned from its question and does not end), else its end
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ownlm.errors import OwnlmError
from ownlm.tokenizer import ChatTemplate, MaskUntoldError, ModelTemplate, Rendered, Tokenizer

Line = Mapping[str, Any]
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Example:
    """What stands together in a row: ids, and for each whether it is trained (the first never is)."""

    ids: np.ndarray
    trained: np.ndarray


@dataclass(kw_only=True)
class Counts:
    """What became of the lines, for the run's record and the user.

    conversations, documents:  lines of each form
    shortened:       conversations longer than the context; turns_left_out: whole turns that went from them
    cut:             documents that became several examples
    split:           conversations of one example for each answer, since the template rewrites earlier turns
    without_target:  lines with nothing to train on
    refused:         conversations that the template does not take; refusals: the first few, with their lines
    """

    conversations: int = 0
    documents: int = 0
    shortened: int = 0
    turns_left_out: int = 0
    cut: int = 0
    split: int = 0
    without_target: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)
    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Lines to examples of at most `context` + 1 ids; a base model's `template` is None: it takes documents alone."""

    template: ChatTemplate | ModelTemplate | None
    tokenizer: Tokenizer
    context: int
    counts: Counts = field(default_factory=Counts)

    def examples(self, line: Line) -> list[Example]:
        """Those of one line that train something; OwnlmError where the template does not take it."""
        if "text" in line:
            self.counts.documents += 1
            made = list(self._document(line["text"]))
            self.counts.cut += len(made) > 1
        else:
            self.counts.conversations += 1
            made = self._conversation(line)
        self.counts.without_target += not made
        self.counts.examples += len(made)
        self.counts.tokens += sum(len(example.ids) for example in made)
        self.counts.trained_tokens += sum(int(example.trained.sum()) for example in made)
        return made

    def _document(self, text: str) -> Iterator[Example]:
        tokenizer = self.tokenizer
        body = tokenizer.encode_batch([text])[0].astype(np.int64)
        ids = np.concatenate([np.array(tokenizer.prefix_ids, np.int64), body, [tokenizer.end_of_text_id]])
        # The last id of a piece is the first of the next, where it is no target a second time.
        for start in range(0, max(len(ids) - 1, 1), self.context):
            piece = ids[start : start + self.context + 1]
            if len(piece) > 1:
                yield Example(ids=piece, trained=np.arange(len(piece)) > 0)

    def _conversation(self, line: Line) -> list[Example]:
        if self.template is None:
            raise OwnlmError(
                "the model has no chat template; name one in the recipe (chat_template: chatml), "
                'or give documents, {"text": "..."}'
            )
        before = self.counts.shortened, self.counts.turns_left_out
        try:
            rendered = [self._fitted(line["messages"], line)]
        except MaskUntoldError:
            self.counts.shortened, self.counts.turns_left_out = before
            rendered = [self._fitted(turns, line) for turns in _up_to_each_answer(line["messages"])]
            if len(rendered) < 2:
                raise
            self.counts.split += 1
        examples = []
        for each in rendered:
            trained = np.asarray(each.trained, dtype=bool)
            trained[:1] = False
            if trained.any():
                examples.append(Example(ids=np.asarray(each.ids, dtype=np.int64), trained=trained))
        return examples

    def _fitted(self, messages: Messages, line: Line) -> Rendered:
        room = self.context + 1
        rendered = self._render(messages, line)
        if len(rendered.ids) <= room:
            return rendered
        self.counts.shortened += 1
        system = next((n for n, turn in enumerate(messages) if turn["role"] != "system"), len(messages))
        # Where the rest may begin: with a question, after the system's turns and the first question.
        starts = [n for n in range(system + 1, len(messages)) if messages[n]["role"] == "user"]

        def rest(start: int) -> Rendered:
            return self._render([*messages[:system], *messages[start:]], line)

        if starts:
            place = bisect_left(starts, True, key=lambda start: len(rest(start).ids) <= room)
            start = starts[min(place, len(starts) - 1)]
            self.counts.turns_left_out += start - system
            rendered = rest(start)
        ids, trained = rendered.ids, rendered.trained
        if len(ids) <= room:
            return rendered
        question = trained.index(True) if True in trained else len(ids)
        kept = slice(0, room) if question <= room // 2 else slice(len(ids) - room, None)
        return Rendered(ids=ids[kept], trained=trained[kept])

    def _render(self, messages: Messages, line: Line) -> Rendered:
        tools = line.get("tools")
        if isinstance(self.template, ModelTemplate):
            return self.template.render(messages, tools=tools)
        assert self.template is not None
        if tools:
            raise OwnlmError("our own chat format has no tools yet; leave tools out, or tune a model that has them")
        return self.template.render(messages)


def _up_to_each_answer(messages: Messages) -> Iterator[Messages]:
    """The conversation as the model meets it at each answer that is trained: what went before is context."""
    for place, message in enumerate(messages):
        if message["role"] == "assistant" and message.get("train") is not False:
            before = [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in messages[:place]]
            yield [*before, message]
