"""A model's files in either format, from a checkpoint and what belongs to it."""

from dataclasses import replace
from pathlib import Path

from ownlm.model.checkpoint import Checkpoint
from ownlm.model.formats.gguf_write import write_gguf
from ownlm.model.formats.huggingface import write_checkpoint
from ownlm.model.load import with_ends
from ownlm.opened.files import ModelFiles
from ownlm.opened.suggested import generation_fields
from ownlm.tokenizer import ModelTemplate, gguf_metadata


def write_folder(folder: Path, checkpoint: Checkpoint, files: ModelFiles) -> list[str]:
    """A Hugging Face folder; its files' names. `checkpoint` gives fields and tensors, `files` all that goes along."""
    tokenizer = files.tokenizer
    checkpoint = replace(checkpoint, generation=generation_fields(files.suggested_sampling))
    ended = with_ends(checkpoint, bos_id=tokenizer.bos_id, eos_ids=files.end_ids, pad_id=tokenizer.pad_id)
    return [*write_checkpoint(folder, ended), *write_tokenizer(folder, files)]


def write_tokenizer(folder: Path, files: ModelFiles) -> list[str]:
    """The tokenizer with the chat template."""
    longest = files.checkpoint.fields.get("max_position_embeddings")
    templates = files.template.templates if isinstance(files.template, ModelTemplate) else None
    return files.tokenizer.save(folder, chat=files.template is not None, model_max_length=longest, templates=templates)


def write_file(path: Path, checkpoint: Checkpoint, files: ModelFiles, *, quantization: str) -> None:
    """A GGUF file with tokenizer and chat template inside."""
    metadata = gguf_metadata(
        files.tokenizer,
        padded_vocab_size=checkpoint.fields["vocab_size"],
        chat_template=files.template.jinja if files.template else None,
    )
    write_gguf(path, checkpoint, quantization=quantization, tokenizer_metadata=metadata, name=files.name)
