"""The tokenizer's files in a Hugging Face folder: which to read, and what to write.

In:  a folder, or a tokenizer.
Out: the content of a tokenizer.json; or the files by name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as Pipeline
from tokenizers import decoders, models, pre_tokenizers

from ownlm.artefact import read_text
from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer.chat import CHAT_TEMPLATE
from ownlm.tokenizer.settings import CHAT_TEMPLATE_FILE, DEFAULT_TEMPLATE, TOKENIZER_CONFIG
from ownlm.tokenizer.special import END_OF_TEXT, IM_END, PAD

if TYPE_CHECKING:
    from ownlm.tokenizer.tokenizer import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
# The largest known, Gemma 3's, has 33 MB.
_MOST_BYTES = 256_000_000
# What transformers writes where a tokenizer sets no limit.
NO_MAX_LENGTH = int(1e30)


def tokenizer_json_of(folder: Path) -> str:
    """The folder's tokenizer.json; where it has only GPT-2's vocab.json and merges.txt, one made of these."""
    path = folder / TOKENIZER_FILE
    if not path.exists() and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _of_gpt2(folder)
    if not path.exists() and (bare := next(folder.glob("*.model"), None)):
        raise OwnlmError(
            f"{folder} holds {bare.name} but no {TOKENIZER_FILE}; write one with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    if not path.exists():
        raise OwnlmError(f"{folder} holds no {TOKENIZER_FILE}; name a tokenizer's folder")
    return _read(path)


def _read(path: Path) -> str:
    return read_text(path, fix="copy or train the tokenizer anew", most=_MOST_BYTES)


def tokenizer_files(
    tokenizer: "Tokenizer",
    *,
    chat: bool,
    model_max_length: int | None,
    templates: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """`templates`: a chat model's, where they are not those that its tokenizer has: ours, or what it came with."""
    settings = tokenizer.settings
    names: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"))
    if tokenizer.own:
        names |= {"eos_token": IM_END if chat else END_OF_TEXT, "pad_token": PAD}
        its_own: Mapping[str, str] = {DEFAULT_TEMPLATE: CHAT_TEMPLATE}
    else:
        names |= settings.names
        its_own = settings.templates
    config = {
        # Without this class transformers rebuilds a Qwen folder's pipeline and gives other ids.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "model_max_length": model_max_length or NO_MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
    }
    files = {TOKENIZER_FILE: tokenizer.to_json(), TOKENIZER_CONFIG: json.dumps(config, indent=2) + "\n"}
    for name, text in (templates or its_own).items() if chat else ():
        if name == DEFAULT_TEMPLATE:
            files[CHAT_TEMPLATE_FILE] = text
        elif name.replace("_", "").isalnum():
            files[f"additional_chat_templates/{name}.jinja"] = text
    return files


def _of_gpt2(folder: Path) -> str:
    try:
        vocab = json.loads(_read(folder / "vocab.json"))
        lines = _read(folder / "merges.txt").splitlines()
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        pipeline = Pipeline(models.BPE(vocab=vocab, merges=[(left, right) for left, right in pairs]))
    except OwnlmError:
        raise
    except Exception as error:  # the library raises no narrower kind
        raise DamagedError(f"{folder}: vocab.json and merges.txt do not fit ({error}); copy the model anew") from None
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pipeline.decoder = decoders.ByteLevel()
    # GPT-2's files list its one special token among the ordinary ones, and nowhere else.
    if END_OF_TEXT in vocab:
        pipeline.add_special_tokens([END_OF_TEXT])
    return str(pipeline.to_str())
