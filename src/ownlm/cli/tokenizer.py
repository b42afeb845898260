"""`ownlm tokenizer`: train, show, encode, add."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def train(
    corpus: Path,
    *,
    out: Path,
    vocab_size: int = 4096,
    kind: Literal["bpe", "word", "character"] = "bpe",
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Train a tokenizer on a corpus. Example: ownlm tokenizer train runs/mine/corpus --out runs/mine/tokenizer

    Parameters
    ----------
    corpus
        A corpus's folder, or a run's; the held-out documents are not looked at.
    out
        The folder to write.
    vocab_size
        How many ids, the 32 special tokens and 256 bytes included.
    kind
        Pieces of words, whole words, or characters.
    force
        Move an existing folder aside.
    """
    from ownlm.cli.parts import corpus_folder
    from ownlm.corpus.make_tokenizer import TokenizerConfig, make_tokenizer

    make_tokenizer(corpus_folder(corpus), out, TokenizerConfig(kind=kind, vocab_size=vocab_size), force=force)
    sys.stdout.write(f"the tokenizer lies in {out}\n")
    return 0


def show(tokenizer: Path) -> int:
    """A tokenizer's size, and how far it shortens text of each kind. Example: ownlm tokenizer show TOKENIZER

    Parameters
    ----------
    tokenizer
        A tokenizer's folder, a model's or a run's.
    """
    from ownlm.cli.parts import tokenizer_folder
    from ownlm.tokenizer import Tokenizer, compression

    opened = Tokenizer.load(tokenizer_folder(tokenizer))
    sys.stdout.write(f"{opened.kind}, {opened.vocab_size:,} ids\nbytes per token by kind of text:\n")
    for name, result in compression(opened).items():
        sys.stdout.write(f"  {name:<10} {result.bytes_per_token:5.2f}\n")
    return 0


def encode(tokenizer: Path, text: str, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Cut TEXT into tokens; "-" reads it from stdin. Example: ownlm tokenizer encode TOKENIZER "some words"

    Parameters
    ----------
    tokenizer
        A tokenizer's folder, a model's or a run's.
    text
        The text to cut.
    json
        The ids as a JSON list.
    """
    from ownlm.cli.parts import tokenizer_folder
    from ownlm.tokenizer import Tokenizer, cut

    opened = Tokenizer.load(tokenizer_folder(tokenizer))
    text = sys.stdin.read() if text == "-" else text
    if json:
        from json import dumps

        sys.stdout.write(dumps(opened.encode(text)) + "\n")
        return 0
    from ownlm.cli.screen_text import safe_text

    for piece in cut(opened, text):
        sys.stdout.write(f"{piece.id:>7}  {safe_text(piece.text)!r}\n")
    return 0


def add(model: str, *tokens: str, out: Path, force: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Write MODEL with new special tokens, which tuning is then to give a meaning.

    Example: ownlm tokenizer add smollm2 "<|note|>" "<|source|>" --out runs/more

    Parameters
    ----------
    model
        A model's folder, a run's, a .gguf file, or a starter.
    tokens
        Their names; no token of the model may be called so.
    out
        The folder to write.
    force
        Move an existing folder aside.
    """
    from ownlm.cli.open_model import locate_model
    from ownlm.errors import OwnlmError
    from ownlm.opened.files import read_files
    from ownlm.opened.surgery import write_with_tokens

    if not tokens:
        raise OwnlmError('no token is named; give at least one after the model, such as "<|note|>"')
    files = write_with_tokens(read_files(locate_model(model)), tokens, out, force=force)
    for token in tokens:
        sys.stdout.write(f"{files.tokenizer.special[token]:>7}  {token!r}\n")
    sys.stdout.write(f"the model lies in {out}\n")
    return 0
