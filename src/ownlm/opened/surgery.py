"""A model's files with more tokens, or another chat template: what tuning may want of a model that lacks them.

In:  ModelFiles. Out: ModelFiles; build() makes the decoder that has the rows.

    chat_template: chatml      <|im_start|>user⏎Hi<|im_end|>⏎ ...   the two tokens are added where they are missing
    chat_template: FILE        any template, of which an answer ends with a special token
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ownlm.artefact import read_errors, read_text, write_artefact
from ownlm.errors import OwnlmError
from ownlm.model.load import to_checkpoint
from ownlm.opened.build import build
from ownlm.opened.convert import as_wide_as, cast
from ownlm.opened.files import ModelFiles
from ownlm.opened.write import write_folder
from ownlm.tokenizer import CHAT_TEMPLATE, ChatTemplate, ModelTemplate, Tokenizer, with_tokens
from ownlm.tokenizer.special import IM_END, IM_START

CHATML = "chatml"
_MOST_TEMPLATE_BYTES = 4_000_000


def add_tokens(files: ModelFiles, tokens: Sequence[str]) -> ModelFiles:
    """With `tokens` as special ones."""
    if files.adapter is not None:
        raise OwnlmError(f"{files.place} is an adapter, whose base has no rows for new tokens; merge it first")
    tokenizer = with_tokens(files.tokenizer, tokens)
    template = files.template
    if isinstance(template, ChatTemplate):
        template = ChatTemplate(tokenizer)
    elif template is not None:
        template = ModelTemplate(template.templates, tokenizer)
    return replace(files, tokenizer=tokenizer, template=template, new_tokens=files.new_tokens + len(tokens))


def with_chat_template(files: ModelFiles, chat_template: str) -> ModelFiles:
    """With CHATML, or the template in a file, instead of its own."""
    if chat_template == CHATML:
        if files.tokenizer.own:
            return replace(files, template=ChatTemplate(files.tokenizer))
        files = add_tokens(files, [token for token in (IM_START, IM_END) if token not in files.tokenizer.special])
        # Models that begin every text with a token are lost without it.
        begins = files.tokenizer.prefix_ids and "bos_token" in files.tokenizer.names
        text = ("{{- bos_token -}}\n" if begins else "") + CHAT_TEMPLATE
    else:
        path = Path(chat_template)
        with read_errors(path):
            text = read_text(path, fix="name a Jinja file, or chatml", most=_MOST_TEMPLATE_BYTES)
    tokenizer = _ending_answers(files.tokenizer, text)
    return replace(files, tokenizer=tokenizer, template=ModelTemplate(text, tokenizer))


def _ending_answers(tokenizer: Tokenizer, text: str) -> Tokenizer:
    """What the template ends an answer with ends it in generation too, and is learned."""
    asked = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rendered = ModelTemplate(text, tokenizer).render(asked)
    special = set(tokenizer.special.values())
    ends = [id for id, trained in zip(rendered.ids, rendered.trained, strict=True) if trained and id in special]
    if not ends:
        raise OwnlmError(
            "chat_template: an answer ends with no special token, so it would never end; let the template put one, "
            "and name it in add_tokens if the model lacks it"
        )
    if ends[-1] in tokenizer.end_ids:
        return tokenizer
    if tokenizer.own:
        raise OwnlmError(f"chat_template: an answer of a model that ownlm trained ends with {IM_END}; let it end so")
    return Tokenizer(tokenizer.to_json(), replace(tokenizer.settings, end_ids=(ends[-1], *tokenizer.end_ids)))


def write_with_tokens(files: ModelFiles, tokens: Sequence[str], folder: Path, *, force: bool = False) -> ModelFiles:
    """A model folder with `tokens` added, as wide as the model is stored; returns what was written."""
    more = add_tokens(files, tokens)
    kind = as_wide_as(files.checkpoint, matrices_alone=False)
    how = {"tokens_added": list(tokens), "to": files.place.name}
    with write_artefact(folder, files.kind, how=how, force=force, taken="name another folder") as draft:
        write_folder(draft.path, cast(to_checkpoint(build(more)), kind), more)
    return more
