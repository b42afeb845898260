"""A chat template in the form that Ollama has: pieces around a system message, a question and an answer.

    Jinja ──renders a few talks──▶ what stands around each message ──▶ Go template, held to further talks

Ollama reads no Jinja. What a template says of plain talk can be told in such pieces for most; where it cannot (one that
puts the system message into the first question, one that rewrites what went before), the export is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ownlm.errors import OwnlmError
from ownlm.opened.files import ModelFiles
from ownlm.tokenizer import ModelTemplate

_NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
_S, _U, _A, _V = "Sqxzj", "Uqxzj", "Aqxzj", "Vqxzj"
_REFUSED = OwnlmError(
    "the model's chat template cannot be told in Ollama's form; export it for llamacpp, which reads it as it is"
)


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """`default`: what stands there without a system message. `open`: the header of the answer that is asked for."""

    system: tuple[str, str]
    default: str
    user: tuple[str, str]
    assistant: tuple[str, str]
    open: str

    def text(self, talk: Sequence[Mapping[str, str]]) -> str:
        """As Ollama will write it."""
        first = talk[0]["content"] if talk[0]["role"] == "system" else None
        said = self.default if first is None else self.system[0] + first + self.system[1]
        for message in talk[first is not None :]:
            begin, end = self.user if message["role"] == "user" else self.assistant
            said += begin + message["content"] + end
        return said + self.open

    def go(self) -> str:
        system, user, assistant = self.system, self.user, self.assistant
        return (
            "{{ if .System }}" + _raw(system[0]) + "{{ .System }}" + _raw(system[1])
            + "{{ else }}" + _raw(self.default) + "{{ end }}"
            + '{{ range .Messages }}{{ if eq .Role "user" }}' + _raw(user[0]) + "{{ .Content }}" + _raw(user[1])
            + '{{ else if eq .Role "assistant" }}' + _raw(assistant[0]) + "{{ .Content }}" + _raw(assistant[1])
            + "{{ end }}{{ end }}" + _raw(self.open)
        )  # fmt: skip


def modelfile(files: ModelFiles, *, context: int, sampling: Mapping[str, float | int]) -> str:
    template = "{{ .Prompt }}" if files.template is None else pieces_of(files).go()
    if '"""' in template:
        raise _REFUSED
    ends = [files.tokenizer.token_bytes(id).decode("utf-8", "replace") for id in files.end_ids]
    lines = ["FROM ./model.gguf", f'TEMPLATE """{template}"""', f"PARAMETER num_ctx {context}"]
    lines += [f"PARAMETER stop {json.dumps(end, ensure_ascii=False)}" for end in ends]
    lines += [f"PARAMETER {_NAMES[name]} {value:g}" for name, value in sampling.items() if name in _NAMES]
    return "\n".join(lines) + "\n"


def pieces_of(files: ModelFiles) -> Pieces:
    assert files.template is not None and files.template.jinja is not None
    template = ModelTemplate(files.template.jinja, files.tokenizer)

    def text(*said: str, open: bool = True) -> str:
        roles = {_S: "system", _A: "assistant"}
        return template.text([{"role": roles.get(word, "user"), "content": word} for word in said], open)

    try:
        before, rest = _cut(text(_S, _U), _S)
        system_end_and_user, _ = _cut(rest, _U)
        default_and_user, ended_open = _cut(text(_U), _U)
        _, ended = _cut(text(_U, open=False), _U)
        _, rest = _cut(text(_U, _A, _V), _U)
        to_answer, rest = _cut(rest, _A)
        to_question, _ = _cut(rest, _V)
        _, answered = _cut(text(_U, _A, open=False), _A)
    except OwnlmError:
        # It knows no system message, or no answer.
        raise _REFUSED from None
    begin = _without(to_question, answered, "")
    found = Pieces(
        system=(before, _without(system_end_and_user, "", begin)),
        default=_without(default_and_user, "", begin),
        user=(begin, ended),
        assistant=(_without(to_answer, ended, ""), answered),
        open=_without(ended_open, ended, ""),
    )
    for said in ((_S, _V, _A, _U), (_U, _A, _V, _A, _U), (_U,), (_S, _U)):
        talk = [{"role": {_S: "system", _A: "assistant"}.get(word, "user"), "content": word} for word in said]
        if found.text(talk) != text(*said):
            raise _REFUSED
    return _without_bos(found, files)


def _without_bos(pieces: Pieces, files: ModelFiles) -> Pieces:
    """Ollama puts the token that begins a text there itself, where the file says so; twice would be one too many."""
    tokenizer = files.tokenizer
    if not tokenizer.prefix_ids or tokenizer.bos_id is None:
        return pieces
    bos = tokenizer.token_bytes(tokenizer.bos_id).decode("utf-8", "replace")
    begins = pieces.default or pieces.user[0]
    if not (begins.startswith(bos) and pieces.system[0].startswith(bos) and pieces.default):
        raise _REFUSED
    return Pieces(
        system=(pieces.system[0].removeprefix(bos), pieces.system[1]),
        default=pieces.default.removeprefix(bos),
        user=pieces.user,
        assistant=pieces.assistant,
        open=pieces.open,
    )


def _cut(text: str, word: str) -> tuple[str, str]:
    before, found, after = text.partition(word)
    if not found or word in after:
        raise _REFUSED
    return before, after


def _without(text: str, prefix: str, suffix: str) -> str:
    if not text.startswith(prefix) or not text.endswith(suffix) or len(text) < len(prefix) + len(suffix):
        raise _REFUSED
    return text[len(prefix) : len(text) - len(suffix)]


def _raw(text: str) -> str:
    """Text that is no action of the template's."""
    return text.replace("{{", '{{ "{{" }}')
