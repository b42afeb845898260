"""An opened model: ask it, look at its numbers, save it.

model = ownlm.load("runs/quickstart/chat")
model.chat([{"role": "user", "content": "What does len do?"}]).text
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ownlm.artefact import write_artefact
from ownlm.engine import Engine, EngineConfig, Request, embeddings, log_likelihoods, run, stream
from ownlm.engine.beam import beam_search
from ownlm.engine.chat_stream import ChatStream
from ownlm.engine.draft_model import DraftModel
from ownlm.engine.speculate import PromptLookup
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder
from ownlm.model.arithmetic import Arithmetic, Dtype, Quantize, choose_arithmetic
from ownlm.model.fetch_wheel import Progress
from ownlm.model.load import to_checkpoint
from ownlm.model.locate import Ask, locate
from ownlm.model.lora import LoraAdapter
from ownlm.opened.answer import Answer, answer_of, answers_of
from ownlm.opened.asked import make_request
from ownlm.opened.build import build
from ownlm.opened.files import ModelFiles, read_files
from ownlm.opened.write import write_folder
from ownlm.tokenizer import ChatTemplate, Tokenizer

Message = Mapping[str, Any]


class Model:
    """A decoder with its tokenizer and, when it was tuned to chat, its chat template. Made by `load`.

    `name` is what the user wrote for it, `files` are what it was read from. `suggested_sampling` holds keywords that
    suit it, as its makers say: model.chat(messages, **model.suggested_sampling).

    What is asked goes by keywords: those of engine.Sampling (max_tokens, temperature, top_k, seed, stop ...), at most
    one of json_schema, regex, choices and grammar, which hold the answer to a form, and adapter and priority.
    """

    def __init__(
        self, decoder: Decoder, files: ModelFiles, *, name: str, engine_config: EngineConfig | None = None
    ) -> None:
        self.decoder, self.files, self.name = decoder, files, name
        self.tokenizer, self.template, self.end_ids = files.tokenizer, files.template, files.end_ids
        self.suggested_sampling = files.suggested_sampling
        self.adapter: LoraAdapter | None = None
        self._engine_config = engine_config

    @cached_property
    def engine(self) -> Engine:
        """What answers every request; a beginning that two of them share is computed once."""
        return Engine(self.decoder, self.tokenizer, self.end_ids, self._engine_config)

    def speculate(self, by: "Literal['lookup'] | Model | None") -> None:
        """Guess tokens ahead: from the text itself, by a smaller model of the same tokenizer, or not at all.

        It changes no answer, only how fast it comes.
        """
        engine = self.engine
        if isinstance(by, Model):
            if not _same_tokens(self.tokenizer, by.tokenizer):
                raise OwnlmError(f"{by.name} cuts text into other tokens than {self.name}; take one of its family")
            engine.speculator = DraftModel(by.decoder, engine.runner, blocks=engine.scheduler.blocks.count)
        elif by in ("lookup", None):
            engine.speculator = None if by is None else PromptLookup()
        else:
            raise OwnlmError(f'speculate takes "lookup", an opened model or None, got {by!r}')

    def use_adapter(self, folder: str | Path | None) -> None:
        """Answer with a LoRA adapter beside the weights, from a folder of PEFT's form, or without one again.

        A request's own `adapter` goes before it.
        """
        adapter = None if folder is None else LoraAdapter.load(Path(folder), self.decoder)
        if adapter is not None:
            adapter.check(self.decoder)
        self.adapter = adapter

    def generate(self, prompt: str, **asked: Any) -> Answer:
        """Continue `prompt`."""
        return self._answers([prompt], [self.request(prompt, **_one(asked))])[0]

    def choices(self, prompt: str, *, n: int, **asked: Any) -> list[Answer]:
        """`n` ways to continue it, side by side; the prompt is read once."""
        return self._answers([prompt], [self.request(prompt, n=n, **asked)])

    def beams(self, prompt: str, *, beams: int = 4, max_tokens: int = 256, length_penalty: float = 1.0) -> list[Answer]:
        """The likeliest ways to continue it, the best first; see engine.beam."""
        ids = self.tokenizer.prompt_ids(prompt)
        found = beam_search(
            self.engine, ids, beams=beams, max_tokens=max_tokens, length_penalty=length_penalty, adapter=self.adapter
        )
        return [answer_of(done, {"prompt_tokens": len(ids)}) for done in found]

    def stream(self, prompt: str, **asked: Any) -> Iterator[str]:
        """One, piece by piece; no piece ends inside a character."""
        request = self.request(prompt, **_one(asked))
        texts = (piece.text for piece in stream(self.engine, request) if piece.text)
        return chain((prompt,), texts) if request.sampling.echo else texts

    def chat(self, messages: Sequence[Message], **asked: Any) -> Answer:
        """The assistant's next turn. OwnlmError when the model was never tuned to chat."""
        return self.complete([self.chat_prompt(messages)], **asked)[0]

    def stream_chat(self, messages: Sequence[Message], **asked: Any) -> ChatStream:
        """The same as it is written. Messages that the context cannot hold are dropped, oldest first."""
        request = self._request([], _one(asked))
        prompt, dropped = self._fitting_prompt(list(messages), request.sampling.max_tokens)
        return ChatStream(stream(self.engine, replace(request, prompt=prompt)), context_dropped=dropped)

    def complete(self, prompts: Sequence[list[int]], **asked: Any) -> list[Answer]:
        """Answers to many prompts of ids, side by side."""
        requests = [self._request(prompt, _one(asked)) for prompt in prompts]
        # Only an answer with its prompt in front needs that as text.
        texts = [self.tokenizer.decode(request.prompt) if request.sampling.echo else "" for request in requests]
        return self._answers(texts, requests)

    def request(self, prompt: str, **asked: Any) -> Request:
        """The engine's request for a text to continue."""
        return self._request(self.tokenizer.prompt_ids(prompt), asked)

    def _request(self, prompt: list[int], asked: Mapping[str, Any]) -> Request:
        return make_request(prompt, {"adapter": self.adapter, **asked})

    def _answers(self, prompts: Sequence[str], requests: Sequence[Request]) -> list[Answer]:
        """In the order of the requests, for each as many as its n."""
        speculated = self.engine.speculator is not None
        tickets = zip(run(self.engine, requests), prompts, strict=True)
        return [answer for ticket, text in tickets for answer in answers_of(ticket, text, speculated=speculated)]

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        if self.template is None:
            raise OwnlmError(
                f"{self.name} was never tuned to chat; continue texts with `ownlm generate`, or tune it first"
            )
        return self.template.render(messages, add_generation_prompt=True).ids

    def question_prompt(self, question: str) -> list[int]:
        """One user turn as a prompt, for a chat model or, as a test of what it lacks, a base model."""
        return (self.template or ChatTemplate(self.tokenizer)).question(question)

    @torch.inference_mode()
    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Scores of each next token, float32 [T, V]; row t has read token_ids[: t + 1]."""
        if not token_ids:
            raise OwnlmError("logits need at least one token id; encode a text that is not empty")
        logits_BTV: Tensor = self.decoder(torch.tensor([list(token_ids)], device=self.decoder.device))
        return logits_BTV[0].float().cpu()

    def embed(self, texts: Sequence[str]) -> Tensor:
        """A vector of unit length for each text, float32 [N, E]: the mean of its last hidden states.

        Texts that are alike tend to lie near each other, as far as a model that was made to write knows them;
        `load_embedder` opens models that were made for it.
        """
        if not texts:
            raise OwnlmError("there is no text to embed; give at least one")
        return embeddings(self.engine, [self.tokenizer.prompt_ids(text) for text in texts], adapter=self.adapter)

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each (context, continuation): how likely the continuation is, in nats."""
        tokenizer = self.tokenizer
        asked = [(tokenizer.prompt_ids(context), tokenizer.continue_ids(text)) for context, text in pairs]
        return log_likelihoods(self.decoder, asked, adapter=self.adapter)

    def answer_log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each (question, answer): how likely the answer's words are as the next turn, in nats."""
        go_on = self.tokenizer.continue_ids
        prompts = [(self.question_prompt(asked), go_on(text)) for asked, text in pairs]
        return log_likelihoods(self.decoder, prompts, adapter=self.adapter)

    @property
    def arithmetic(self) -> str:
        """What it computes in, in a few words: "float32", or "int4 blocks (Q4_1), bfloat16 activations"."""
        return self.decoder.arithmetic

    def save(self, folder: str | Path) -> Path:
        """Write a Hugging Face model folder, with its card. An existing folder is refused."""
        target = Path(folder)
        how = {"saved_from": self.files.place.name}
        # What is computed on blocks has lost their last bits: the file has them.
        exact = build(self.files) if self.decoder.in_blocks else self.decoder
        with write_artefact(target, self.files.kind, how=how, taken="name another folder") as draft:
            write_folder(draft.path, to_checkpoint(exact), self.files)
        return target

    def _fitting_prompt(self, messages: list[Message], max_tokens: int) -> tuple[list[int], int]:
        """The prompt without the oldest messages that leave no room for an answer, and how many those are."""
        room = self.engine.context
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


def load(
    model: str | Path,
    *,
    device: str | None = None,
    dtype: Dtype | None = None,
    quantize: Quantize | None = None,
    engine: EngineConfig | None = None,
    ask: Ask | None = None,
    progress: Progress | None = None,
) -> Model:
    """Open a model folder, a run's or an adapter's folder, a .gguf file, a starter or hub:ORG/NAME, after checking its
    files.

    `dtype` is what it computes in: "float32" is the reference, whatever the file holds; "auto" what is fastest here.
    `quantize`: "blocks" computes on a file's 4-bit blocks, "none" dequantises them. By default blocks where that is
    fast, else float32; `arithmetic` tells, and model/arithmetic.py has the whole table. `engine` says how many texts it
    answers side by side, with how much memory. A starter that is not here is fetched when `ask`, called with a
    question, gives True; see model.locate.
    """
    files = read_files(locate(model, ask=ask, progress=progress))
    device = device or best_device()
    chosen = arithmetic_of(files, device=device, dtype=dtype, quantize=quantize)
    decoder = build(files, device=device, dtype=chosen.dtype, keep_blocks=chosen.keep_blocks)
    return Model(decoder.pack(), files, name=str(model), engine_config=engine)


def arithmetic_of(
    files: ModelFiles, *, device: str, dtype: Dtype | None = None, quantize: Quantize | None = None
) -> Arithmetic:
    """What `load` computes in."""
    if files.new_tokens and quantize is None:
        # Blocks have no room for their rows.
        quantize = "none"
    return choose_arithmetic(files.checkpoint.tensors, device=device, dtype=dtype, quantize=quantize)


def _one(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    if asked.get("n", 1) != 1:
        raise OwnlmError(f"this gives one answer, n is {asked['n']!r}; model.choices(prompt, n=...) gives several")
    return asked


def _same_tokens(one: Tokenizer, other: Tokenizer) -> bool:
    ids = range(one.vocab_size)
    return one.vocab_size == other.vocab_size and all(one.token_bytes(id) == other.token_bytes(id) for id in ids)
