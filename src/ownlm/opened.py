"""An opened model: ask it, look at its numbers, save it.

model = ownlm.load("runs/quickstart/chat")
model.chat([{"role": "user", "content": "What does len do?"}]).text
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ownlm.artefact import verify_artefact, write_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.engine import Completion, Request, Sampling, complete, log_likelihoods, stream
from ownlm.engine.chat_stream import ChatStream
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder
from ownlm.model.formats import read_decoder, write_decoder
from ownlm.model.load import model_folder
from ownlm.tokenizer import ChatTemplate, ModelTemplate, Tokenizer, chat_template_of

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote. `logprobs` are natural logarithms, one a token; `usage` counts tokens."""

    text: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[float]
    usage: dict[str, int]


class Model:
    """A decoder with its tokenizer and, when it was tuned to chat, its chat template. Made by `load`."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | ModelTemplate | None,
        folder: Path,
    ) -> None:
        self.decoder, self.tokenizer, self.folder = decoder, tokenizer, folder
        self.template = template
        if template is None and tokenizer.own:
            # A base model of ours has never seen the other end.
            self.end_ids: tuple[int, ...] = (tokenizer.end_of_text_id,)
        else:
            self.end_ids = tokenizer.end_ids

    @property
    def name(self) -> str:
        return str(self.folder)

    def generate(self, prompt: str, **sampling: Any) -> Answer:
        """Continue `prompt`. Keywords are those of engine.Sampling: max_tokens, temperature, top_k, seed ..."""
        return self.complete([self.tokenizer.prompt_ids(prompt)], **sampling)[0]

    def stream(self, prompt: str, **sampling: Any) -> Iterator[str]:
        """The same, piece by piece; no piece ends inside a character."""
        request = Request(prompt=self.tokenizer.prompt_ids(prompt), sampling=make_sampling(sampling))
        for _, piece in stream(self.decoder, self.tokenizer, [request], self.end_ids):
            if piece.text:
                yield piece.text

    def chat(self, messages: Sequence[Message], **sampling: Any) -> Answer:
        """The assistant's next turn. OwnlmError when the model was never tuned to chat."""
        return self.complete([self.chat_prompt(messages)], **sampling)[0]

    def stream_chat(self, messages: Sequence[Message], **sampling: Any) -> ChatStream:
        """The same as it is written. Messages that the context cannot hold are dropped, oldest first."""
        settings = make_sampling(sampling)
        prompt, dropped = self._fitting_prompt(list(messages), settings.max_tokens)
        pieces = stream(self.decoder, self.tokenizer, [Request(prompt=prompt, sampling=settings)], self.end_ids)
        return ChatStream(pieces, context_dropped=dropped)

    def complete(self, prompts: Sequence[list[int]], **sampling: Any) -> list[Answer]:
        """Answers to many prompts of ids, side by side."""
        settings = make_sampling(sampling)
        requests = [Request(prompt=prompt, sampling=settings) for prompt in prompts]
        completions = complete(self.decoder, self.tokenizer, requests, self.end_ids)
        return [_answer(prompt, done) for prompt, done in zip(prompts, completions, strict=True)]

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        if self.template is None:
            raise OwnlmError(
                f"{self.folder} was never tuned to chat; continue texts with `ownlm generate`, or tune it first"
            )
        return self.template.render(messages, add_generation_prompt=True).ids

    def question_prompt(self, question: str) -> list[int]:
        """One user turn as a prompt, for a chat model or, as a test of what it lacks, a base model."""
        return (self.template or ChatTemplate(self.tokenizer)).question(question)

    @torch.inference_mode()
    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Scores of each next token, float32 [T, V]; row t has read token_ids[: t + 1]."""
        if not token_ids:
            raise OwnlmError("logits need at least one token id")
        logits_BTV: Tensor = self.decoder(torch.tensor([list(token_ids)], device=self.decoder.device))
        return logits_BTV[0].float().cpu()

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each (context, continuation): how likely the continuation is, in nats."""
        begin, go_on = self.tokenizer.prompt_ids, self.tokenizer.continue_ids
        return log_likelihoods(self.decoder, [(begin(context), go_on(text)) for context, text in pairs])

    def save(self, folder: str | Path) -> Path:
        """Write a Hugging Face model folder, with its card. An existing folder is refused."""
        target, chat = Path(folder), self.template is not None
        longest = self.decoder.config.max_position_embeddings
        kind = "chat model" if chat else "base model"
        with write_artefact(target, kind, how={"saved_from": self.folder.name}) as draft:
            write_decoder(draft.path, self.decoder, eos_ids=list(self.end_ids), pad_id=self.tokenizer.pad_id)
            self.tokenizer.save(draft.path, chat=chat, model_max_length=longest)
        return target

    def _fitting_prompt(self, messages: list[Message], max_tokens: int) -> tuple[list[int], int]:
        """The prompt without the oldest messages that leave no room for an answer, and how many those are."""
        room = self.decoder.config.max_position_embeddings
        reserve = min(max_tokens, room // 4)
        dropped = 0
        while len(prompt := self.chat_prompt(messages)) + reserve > room and len(messages) > 1:
            # A system message stays in front: it holds for the whole conversation.
            first = 1 if messages[0].get("role") == "system" and len(messages) > 2 else 0
            del messages[first]
            dropped += 1
            # An answer without its question would mislead: it goes too.
            while len(messages) > first + 1 and messages[first].get("role") == "assistant":
                del messages[first]
                dropped += 1
        return prompt, dropped


def load(model: str | Path, *, device: str | None = None) -> Model:
    """Open a model folder or a run's folder, after checking its files against its card."""
    folder = model_folder(Path(model))
    if (folder / CARD_NAME).is_file():
        verify_artefact(folder)
    decoder = read_decoder(folder, device=device or best_device())
    tokenizer = Tokenizer.load(folder)
    return Model(decoder, tokenizer, template=chat_template_of(folder, tokenizer), folder=Path(model))


def make_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Sampling from keywords; `stop` may be one text or several."""
    settings = dict(settings)
    stop = settings.get("stop", ())
    settings["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or ())
    unknown = settings.keys() - set(Sampling.__dataclass_fields__)
    if unknown:
        known = ", ".join(Sampling.__dataclass_fields__)
        raise OwnlmError(f"unknown sampling setting {sorted(unknown)[0]!r}; there are {known}")
    return Sampling(**settings)


def _answer(prompt: list[int], done: Completion) -> Answer:
    return Answer(
        text=done.text,
        token_ids=done.token_ids,
        finish_reason=done.finish_reason,
        logprobs=done.log_probabilities,
        usage={"prompt_tokens": len(prompt), "completion_tokens": len(done.token_ids)},
    )
