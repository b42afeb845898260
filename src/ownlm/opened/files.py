"""A model's files, opened but not yet a decoder: what `load`, `show` and `convert` begin with.

folder or .gguf file ──▶ Checkpoint, Tokenizer, chat template, licence        no tensor is read
"""

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ownlm.artefact import read_errors, read_json, verify_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.artefact.gguf_header import read_gguf
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.families import read_config
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.huggingface import CONFIG, GENERATION_CONFIG, read_checkpoint
from ownlm.model.locate import ADAPTER_CONFIG, is_path, locate, verified_content
from ownlm.model.lora_folder import token_ids
from ownlm.model.starters import starter_at
from ownlm.opened.suggested import Suggested, suggested_sampling
from ownlm.tokenizer import ChatTemplate, ModelTemplate, Tokenizer, chat_template_of, cut_to_rows, tokenizer_from_gguf
from ownlm.tokenizer.folder import TOKENIZER_FILE

Template = ChatTemplate | ModelTemplate

# A model card begins with its facts, between two lines of three dashes.
_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_FRONT_MATTER_CHARACTERS = 1 << 16
_LICENCE = re.compile(r"^licen[sc]e: *['\"]?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """`place` is a folder or a .gguf file; `template` is None where the model was never tuned to chat.

    `suggested_sampling`: keywords of engine.Sampling that suit the model, as far as its makers say. `adapter`: a folder
    with a LoRA adapter that belongs to it; the checkpoint is then the one of its base. `new_tokens`: how many of the
    tokenizer's last ids have no row in the checkpoint yet; build() makes them.
    """

    place: Path
    name: str
    licence: str | None
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    template: Template | None
    suggested_sampling: Suggested = field(default_factory=dict)
    adapter: Path | None = None
    new_tokens: int = 0

    def fingerprint(self) -> str:
        """A hash of the names, sizes and times of its files: another one after they were written anew."""
        paths = sorted(self.place.iterdir()) if self.place.is_dir() else [self.place]
        facts = [(path.name, (found := path.stat()).st_size, found.st_mtime_ns) for path in paths if path.is_file()]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

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
        if place.is_file():
            files = _of_file(place)
        elif (place / CONFIG).exists() or not (place / ADAPTER_CONFIG).exists():
            files = _of_folder(place)
        else:
            return _of_adapter(place)
    try:
        rows = read_config(files.checkpoint.fields).vocab_size
    except OwnlmError as error:
        raise type(error)(f"{place}: {error}") from None
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
    checkpoint = read_checkpoint(folder)
    tokenizer = _fitting(Tokenizer.load(folder), checkpoint, folder)
    return ModelFiles(
        place=folder,
        name=folder.name,
        licence=_licence_in(folder / "README.md"),
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        template=chat_template_of(folder, tokenizer),
        suggested_sampling=suggested_sampling(checkpoint.generation),
    )


def _of_adapter(folder: Path) -> ModelFiles:
    """The base's files, with the adapter's own tokenizer and template where it brings them."""
    card = verify_artefact(folder, "adapter") if (folder / CARD_NAME).is_file() else None
    fields = read_json(folder / ADAPTER_CONFIG, fix="copy the adapter anew")
    base = fields.get("base_model_name_or_path")
    if not isinstance(base, str) or not base or not base.isprintable():
        raise OwnlmError(f"{folder} is an adapter that names no model; open its model, with this as the adapter")
    if is_path(base) and (folder / base).exists():
        base = str(folder / base)
    elif is_path(base) and not Path(base).exists():
        raise OwnlmError(
            f"{folder} is an adapter for {base}, which is not here; name its model, and this folder as --adapter"
        )
    place = locate(base, fetch=False)
    if (place / ADAPTER_CONFIG).exists() and not (place / CONFIG).exists():
        raise OwnlmError(f"{folder} is an adapter for another adapter; convert {place} to a model of its own first")
    if card is not None and verified_content(place) != card.inputs.get("base"):
        raise OwnlmError(f"{place} is not the model that the adapter in {folder} was trained on; put that one back")
    files = read_files(place)
    tokenizer, new = files.tokenizer, 0
    if (folder / TOKENIZER_FILE).is_file():
        try:
            own_rows = max(token_ids(fields), default=-1) + 1
        except OwnlmError as error:
            raise type(error)(f"{folder}: {error}") from None
        tokenizer = _fitting(Tokenizer.load(folder), files.checkpoint, folder, own_rows)
        new = max(0, tokenizer.vocab_size - files.tokenizer.vocab_size) if own_rows else 0
    template = chat_template_of(folder, tokenizer) if tokenizer is not files.tokenizer else files.template
    return replace(
        files,
        place=folder,
        name=folder.name,
        adapter=folder,
        tokenizer=tokenizer,
        template=template,
        new_tokens=new,
    )


def _licence_in(readme: Path) -> str | None:
    if not readme.is_file():
        return None
    with readme.open(encoding="utf-8", errors="replace") as file:
        front = _FRONT_MATTER.match(file.read(_FRONT_MATTER_CHARACTERS))
    found = _LICENCE.search(front[1]) if front else None
    return found[1] if found else None


def _fitting(tokenizer: Tokenizer, checkpoint: Checkpoint, place: Path, own_rows: int = 0) -> Tokenizer:
    """`own_rows`: up to which id an adapter has rows."""
    rows = checkpoint.fields.get("vocab_size")
    try:
        return cut_to_rows(tokenizer, max(rows, own_rows)) if isinstance(rows, int) else tokenizer
    except OwnlmError as error:
        raise OwnlmError(f"{place}: {error}") from None


def _of_file(path: Path) -> ModelFiles:
    file = read_gguf(path)
    checkpoint = gguf_checkpoint(file)
    tokenizer = _fitting(tokenizer_from_gguf(file.metadata), checkpoint, path)
    licence, starter = file.metadata.get("general.license"), starter_at(path)
    return ModelFiles(
        place=path,
        name=str(file.metadata.get("general.name") or path.stem),
        licence=str(licence) if licence else None,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        template=chat_template_of(tokenizer.settings.templates, tokenizer),
        # GGUF has no key for it.
        suggested_sampling=dict(starter.sampling) if starter else {},
    )
