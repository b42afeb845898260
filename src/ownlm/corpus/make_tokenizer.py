"""A tokenizer artefact from a corpus: trained on its training documents alone."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ownlm.artefact import verify_artefact, write_artefact
from ownlm.corpus.document import read_documents
from ownlm.errors import OwnlmError
from ownlm.tokenizer import SPECIAL_TOKENS, train_tokenizer
from ownlm.tokenizer.train import Kind

LEAST_VOCABULARY = 256 + len(SPECIAL_TOKENS)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """`kind`: bpe, word or character. `vocab_size` counts the 32 special tokens and the 256 bytes too."""

    kind: Kind = "bpe"
    vocab_size: int = 4096

    def __post_init__(self) -> None:
        if self.vocab_size < LEAST_VOCABULARY:
            raise OwnlmError(
                f"tokenizer: vocab_size must be at least {LEAST_VOCABULARY} (256 bytes and the special tokens), "
                f"got {self.vocab_size}"
            )


def make_tokenizer(corpus: Path, out: Path, config: TokenizerConfig, *, force: bool = False) -> Path:
    """Train on `corpus` and write `out`."""
    content = verify_artefact(corpus, "corpus").content
    with write_artefact(out, "tokenizer", how=asdict(config), inputs={"corpus": content}, force=force) as draft:
        texts = (document.text for document in read_documents(corpus, split="train"))
        tokenizer = train_tokenizer(texts, kind=config.kind, vocab_size=config.vocab_size)
        tokenizer.save(draft.path)
        draft.figures.update(vocab_size=tokenizer.vocab_size, padded_vocab_size=tokenizer.padded_vocab_size)
    return out
