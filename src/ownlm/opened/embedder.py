"""An opened embedding model: texts into vectors, and documents by how well they answer a query.

embedder = ownlm.load_embedder("all-MiniLM-L6-v2")
vectors = embedder.embed(["A cat sat on a mat.", "Felines like rugs."])     # float32 [2, E], each of unit length
embedder.rank("Where did it sit?", ["On a mat.", "At noon."])               # a score for each

    text ──frame──▶ [CLS] ids [SEP] ──some at a time, of like length──▶ Bert ──pool──▶ vector
    query, document ──▶ [CLS] ids [SEP] ids [SEP] ──▶ Bert ──head──▶ score       where it is a cross-encoder
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ownlm.artefact import read_errors, read_json, verify_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model.bert import Bert, bare_bert, build_bert
from ownlm.model.bert_config import check_head, read_bert_config
from ownlm.model.checks import whole
from ownlm.model.families.registry import BERT
from ownlm.model.fetch_wheel import Progress
from ownlm.model.formats.huggingface import CONFIG, read_checkpoint
from ownlm.model.formats.huggingface import read_config as read_fields
from ownlm.model.locate import Ask, locate
from ownlm.model.pooling import Pooling, pool, read_pooling
from ownlm.tokenizer import Tokenizer
from ownlm.tokenizer.frame import Frame, Framed

# So many tokens, fillings included, go through the model at once, and so many texts.
STEP_TOKENS, STEP_TEXTS = 4096, 64
_FIX = "restore it"


class Embedder:
    """Made by `load_embedder`. `context`: the longest text in tokens, with the ones that frame it.

    `embeds`: False for a cross-encoder, which ranks and has no vectors. `size`: numbers of a vector.
    """

    def __init__(self, bert: Bert, tokenizer: Tokenizer, *, name: str, context: int, pooling: Pooling = "mean") -> None:
        self.bert, self.tokenizer, self.frame = bert, tokenizer, Frame(tokenizer)
        self.name, self.context, self.pooling = name, context, pooling

    @property
    def embeds(self) -> bool:
        return self.bert.config.num_labels is None

    @property
    def size(self) -> int:
        return self.bert.config.hidden_size

    def embed(self, texts: Sequence[str]) -> Tensor:
        """A vector of unit length for each text, float32 [N, E]."""
        if not texts:
            raise OwnlmError("there is no text to embed; give at least one")
        return self.vectors([self.framed(text) for text in texts])

    def rank(self, query: str, documents: Sequence[str]) -> list[float]:
        """How well each document answers the query: a cross-encoder's score, or the cosine of the two vectors."""
        if not documents:
            return []
        if not self.embeds:
            return self.scores([self.framed(query, document) for document in documents])
        query_E, *documents_E = self.embed([query, *documents])
        return [float(document_E @ query_E) for document_E in documents_E]

    def framed(self, text: str, pair: str | None = None, *, cut: bool = False) -> Framed:
        """A text, or two, as the model reads them; with `cut` the end of the last goes where they are too long."""
        first = self.tokenizer.encode(text)
        second = None if pair is None else self.tokenizer.encode(pair)
        return self.framed_ids(first, second, cut=cut)

    def framed_ids(self, first: Sequence[int], second: Sequence[int] | None = None, *, cut: bool = False) -> Framed:
        room = self.context - self.frame.size(pair=second is not None)
        over = len(first) + len(second or ()) - room
        if over > 0 and cut:
            if second is None:
                first = first[:room]
            else:
                second = second[: max(0, len(second) - over)]
                first = first[: room - len(second)]
        elif over > 0:
            raise OwnlmError(f"the text has {room + over} tokens, and {self.name} reads {room} at once; shorten it")
        return self.frame.around(first, second)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Framed]) -> Tensor:
        """Of framed texts; float32 [N, E] on the CPU."""
        if not self.embeds:
            raise OwnlmError(f"{self.name} is a cross-encoder: it ranks documents, and makes no embeddings")
        return self._each(texts, lambda hidden_BTE, real_BT: pool(hidden_BTE, real_BT, self.pooling))

    @torch.inference_mode()
    def scores(self, pairs: Sequence[Framed]) -> list[float]:
        """A cross-encoder's score of each framed pair."""
        if self.embeds:
            raise OwnlmError(f"{self.name} makes embeddings, and has no score for a pair; rank() compares these")
        scores_N1 = self._each(pairs, lambda hidden_BTE, _: self.bert.labels(hidden_BTE))
        if self.bert.config.sigmoid:
            scores_N1 = scores_N1.sigmoid()
        return [float(score) for score in scores_N1[:, 0]]

    def _each(self, texts: Sequence[Framed], read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        found: list[Tensor | None] = [None] * len(texts)
        for places in groups([len(text.ids) for text in texts]):
            rows = read(*self.hidden([texts[place] for place in places])).cpu()
            for place, row in zip(places, rows, strict=True):
                found[place] = row
        return torch.stack([row for row in found if row is not None])

    def hidden(self, texts: Sequence[Framed]) -> tuple[Tensor, Tensor]:
        """Hidden states [B, T, E], and which of them are the texts' own [B, T]."""
        longest = max(len(text.ids) for text in texts)
        shape, device = (len(texts), longest), self.bert.device
        tokens_BT, types_BT = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        real_BT = torch.zeros(shape, dtype=torch.bool)
        for row, text in enumerate(texts):
            count = len(text.ids)
            tokens_BT[row, :count], types_BT[row, :count] = torch.tensor(text.ids), torch.tensor(text.types)
            real_BT[row, :count] = True
        real_BT = real_BT.to(device)
        return self.bert(tokens_BT.to(device), types_BT.to(device), real_BT), real_BT


def groups(lengths: Sequence[int], *, tokens: int = STEP_TOKENS, texts: int = STEP_TEXTS) -> Iterator[list[int]]:
    """Places of texts that go through a model together: those of like length, so that little is filled up."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) == texts or lengths[place] * (len(group) + 1) > tokens):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def is_embedder(place: Path) -> bool:
    """Is what locate() found for load_embedder, and not for load?"""
    with read_errors(place):
        return place.is_dir() and (place / CONFIG).is_file() and read_fields(place).get("model_type") == BERT


def load_embedder(
    model: str | Path, *, device: str | None = None, ask: Ask | None = None, progress: Progress | None = None
) -> Embedder:
    """Open an embedding model or a cross-encoder of the BERT family: a folder as sentence-transformers writes it.

    It computes in float32. The arguments are `load`'s.
    """
    return read_embedder(locate(model, ask=ask, progress=progress), name=str(model), device=device or best_device())


def read_embedder(place: Path, *, name: str, device: str) -> Embedder:
    """What locate() found. On the device "meta" it has no numbers: it frames texts, and tells what it is."""
    if not place.is_dir():
        raise OwnlmError(f"{place} is no folder; an embedding model is opened from its Hugging Face folder")
    with read_errors(place):
        if (place / CARD_NAME).is_file():
            verify_artefact(place)
        checkpoint = read_checkpoint(place)
        tokenizer = Tokenizer.load(place)
        try:
            config = read_bert_config(checkpoint.fields)
            check_head(config)
            if tokenizer.vocab_size > config.vocab_size:
                raise OwnlmError(
                    f"its tokenizer has {tokenizer.vocab_size:,} tokens and the model {config.vocab_size:,}; restore "
                    "both"
                )
            if device == "meta":
                bert, _ = bare_bert(config, checkpoint.tensors)
            else:
                bert = build_bert(config, checkpoint.tensors, device=device)
        except OwnlmError as error:
            raise type(error)(f"{place}: {error}") from None
        context = min(config.max_position_embeddings, _longest(place) or config.max_position_embeddings)
        pooling = read_pooling(place)
    return Embedder(bert, tokenizer, name=name, context=context, pooling=pooling)


def _longest(folder: Path) -> int | None:
    """Longer texts than sentence-transformers would read are not what the model was made with."""
    path = folder / "sentence_bert_config.json"
    given = read_json(path, fix=_FIX).get("max_seq_length") if path.is_file() else None
    return None if given is None else whole(f"{path}: max_seq_length", given, least=3)
