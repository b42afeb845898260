"""A model's files, opened but not yet a decoder: what `load`, `show` and `convert` begin with.

folder or .gguf file ──▶ Checkpoint, Tokenizer, chat template, licence        no tensor is read
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ownlm.artefact import read_errors, verify_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.artefact.gguf_header import read_gguf
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.families import read_config
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.huggingface import CONFIG, GENERATION_CONFIG, read_checkpoint
from ownlm.tokenizer import ChatTemplate, ModelTemplate, Tokenizer, chat_template_of, tokenizer_from_gguf

Template = ChatTemplate | ModelTemplate

_FRONT_MATTER_BYTES = 1 << 16
# The front matter of a model card says it so.
_LICENCE = re.compile(r"^licen[sc]e: *['\"]?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """`place` is a folder or a .gguf file; `template` is None where the model was never tuned to chat."""

    place: Path
    name: str
    licence: str | None
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    template: Template | None

    @property
    def kind(self) -> str:
        """As cards name it."""
        return "chat model" if self.template is not None else "base model"

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end what the model writes: a turn where it chats, else a text."""
        if self.template is not None:
            return self.template.stop_ids
        return (self.tokenizer.end_of_text_id,) if self.tokenizer.own else self.tokenizer.end_ids


def read_files(place: Path) -> ModelFiles:
    """What locate() found, opened. An artefact of ours is checked against its card first."""
    with read_errors(place):
        files = _of_file(place) if place.is_file() else _of_folder(place)
    try:
        rows = read_config(files.checkpoint.fields).vocab_size
    except OwnlmError as error:
        raise type(error)(f"{place}: {error}") from None
    if files.tokenizer.vocab_size > rows:
        raise OwnlmError(
            f"{place} is a model of {rows:,} tokens with a tokenizer of {files.tokenizer.vocab_size:,}; "
            "copy the tokenizer that belongs to it"
        )
    if place.is_dir():
        _refuse_ids_beyond(rows, files)
    return files


def _refuse_ids_beyond(rows: int, files: ModelFiles) -> None:
    """A folder's special ids are rows of the model. In GGUF such ids count as none, as llama.cpp has it."""
    for name, fields in ((CONFIG, files.checkpoint.fields), (GENERATION_CONFIG, files.checkpoint.generation)):
        for role in ("bos_token_id", "eos_token_id"):
            given = fields.get(role)
            if beyond := [
                id for id in (given if isinstance(given, list) else [given]) if id is not None and id >= rows
            ]:
                raise DamagedError(
                    f"{files.place / name}: {role} is {beyond[0]}, and the model has {rows:,} tokens; restore it"
                )


def _of_folder(folder: Path) -> ModelFiles:
    if (folder / CARD_NAME).is_file():
        verify_artefact(folder)
    checkpoint, tokenizer = read_checkpoint(folder), Tokenizer.load(folder)
    found = _LICENCE.search(_front_matter(folder / "README.md"))
    return ModelFiles(
        place=folder,
        name=folder.name,
        licence=found[1] if found else None,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        template=chat_template_of(folder, tokenizer),
    )


def _front_matter(readme: Path) -> str:
    """The beginning of a model card, where it says its licence; "" where there is none."""
    if not readme.is_file():
        return ""
    with readme.open("rb") as file:
        return file.read(_FRONT_MATTER_BYTES).decode("utf-8", "replace")


def _of_file(path: Path) -> ModelFiles:
    file = read_gguf(path)
    checkpoint, tokenizer = gguf_checkpoint(file), tokenizer_from_gguf(file.metadata)
    licence = file.metadata.get("general.license")
    return ModelFiles(
        place=path,
        name=str(file.metadata.get("general.name") or path.stem),
        licence=str(licence) if licence else None,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        template=chat_template_of(tokenizer.settings.templates, tokenizer),
    )
