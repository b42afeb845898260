"""What stands beside a tokenizer: the names of its special tokens, what ends an answer, its chat templates.

In:  a model folder: tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json,
     chat_template.jinja, additional_chat_templates/. All are optional.
Out: Settings, by token names as far as the files go by names; the tokenizer looks the ids up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ownlm.artefact import read_json, read_text
from ownlm.errors import DamagedError, OwnlmError

TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
ROLES_OF_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DEFAULT_TEMPLATE = "default"
COPY_ANEW = "copy the model anew"
# Ours are 1 kB, the longest known 20 kB.
_MOST_TEMPLATE_BYTES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`names`: "bos_token" -> "<s>" and so on, as templates want them.

    `end_ids` are those that a model's files list; the tokenizer adds the eos token's. `added` are tokens that
    tokenizer.json lacks. Whether a text is begun with a token, the tokenizer.json itself says (its post-processor):
    transformers heeds the flags `add_bos_token` and `add_eos_token` of older files no more.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    end_ids: Sequence[int] = ()
    templates: Mapping[str, str] = field(default_factory=dict)
    added: Sequence[Mapping[str, Any]] = ()
    pre: str | None = None
    """The name of the splitting expression in GGUF, where the vocabulary came from one."""


def read_settings(folder: Path) -> Settings:
    try:
        return _read_settings(folder)
    except OwnlmError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{folder / TOKENIZER_CONFIG} is damaged ({error!r}); copy the model anew") from None


def _read_settings(folder: Path) -> Settings:
    config = _object_in(folder / TOKENIZER_CONFIG)
    named = {**_object_in(folder / SPECIAL_TOKENS_MAP), **config}
    names = {role: _text(named[role]) for role in ROLES_OF_TOKENS if named.get(role)}
    return Settings(
        names=names,
        end_ids=_end_ids(folder),
        templates=read_templates(folder, config),
        added=_added(config),
    )


def read_templates(folder: Path, config: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Chat templates by name: files first, for newer folders have them; "default" is the one for plain talk."""
    if config is None:
        config = _object_in(folder / TOKENIZER_CONFIG)
    templates: dict[str, str] = {}
    written = config.get("chat_template")
    if isinstance(written, str):
        templates[DEFAULT_TEMPLATE] = written
    elif isinstance(written, list):
        templates |= {str(entry["name"]): str(entry["template"]) for entry in written}
    for path in sorted(folder.glob("additional_chat_templates/*.jinja")):
        templates[path.stem] = _read_template(path)
    if (folder / CHAT_TEMPLATE_FILE).exists():
        templates[DEFAULT_TEMPLATE] = _read_template(folder / CHAT_TEMPLATE_FILE)
    return templates


def _read_template(path: Path) -> str:
    return read_text(path, fix=COPY_ANEW, most=_MOST_TEMPLATE_BYTES)


def _object_in(path: Path) -> dict[str, Any]:
    """The object in a file, {} where there is none."""
    return read_json(path, fix=COPY_ANEW) if path.exists() else {}


def _text(token: Any) -> str:
    """A token is written as text, or as an object with its flags."""
    return str(token["content"] if isinstance(token, dict) else token)


def _end_ids(folder: Path) -> list[int]:
    """generation_config.json's list where there is one: a chat model's turns end otherwise than its texts."""
    for name in ("generation_config.json", "config.json"):
        ids = _object_in(folder / name).get("eos_token_id")
        if ids is not None:
            listed = ids if isinstance(ids, list) else [ids]
            return [id for id in listed if isinstance(id, int) and not isinstance(id, bool)]
    return []


def _added(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        return []
    return [{**token, "id": int(id)} for id, token in sorted(decoder.items(), key=lambda item: int(item[0]))]
