"""Chat by the template that a model came with: messages to ids, with the mask of what is trained.

In:  messages, tools and variables as the template knows them; the model's tokenizer.
Out: the ids that transformers gives, and for each whether the model is trained to say it.

Special tokens in the template's own words are parsed. What comes from messages is text, whatever it says (cloak.py);
what an answer said in tokens that are no special ones, such as "<think>", stays what it was.

The mask is what the template marks by `{% generation %}`. Without such marks it is found by rendering the conversation
up to each answer, and with it: what came on is the answer, to the token that ends it. Where a template rewrites what
went before, that cannot be told, and training is refused.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownlm.errors import OwnlmError
from ownlm.tokenizer.chat import CHAT_TEMPLATE, ChatTemplate, Message, Rendered
from ownlm.tokenizer.cloak import Cloak, names_pattern, strings_in
from ownlm.tokenizer.jinja_template import JinjaTemplate
from ownlm.tokenizer.settings import DEFAULT_TEMPLATE, read_templates

if TYPE_CHECKING:
    from ownlm.tokenizer.tokenizer import Tokenizer

_TOOLS_TEMPLATE = "tool_use"
# One thing, three names in use; templates read the first, gpt-oss's the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")
_PROBE = "\U0010fffd"


class ModelTemplate:
    """Has what ChatTemplate has: `render`, `question`, `stop_ids`, `jinja`; and tools and variables beside."""

    def __init__(self, templates: str | Mapping[str, str], tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        self.templates = {DEFAULT_TEMPLATE: templates} if isinstance(templates, str) else dict(templates)
        if not self.templates:
            raise OwnlmError("the model came without a chat template; continue texts with it, or tune it to chat")
        self._compiled: dict[str, _Compiled] = {}

    @property
    def jinja(self) -> str:
        return self._text_for(None)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        return self.tokenizer.end_ids

    def question(self, text: str) -> list[int]:
        """The prompt of one user's turn, an answer's header open at its end."""
        return self.render([{"role": "user", "content": text}], add_generation_prompt=True).ids

    def text(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as the template writes it, to be read: in it, what users said is not told apart."""
        given = self._given(messages, tools, variables)
        return self._template(tools).jinja.render(**given, add_generation_prompt=add_generation_prompt).text

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> Rendered:
        """Ids and mask of a conversation; a prompt, which is not trained on, has a mask of False alone."""
        template = self._template(tools)
        given = self._given(messages, tools, variables)
        cloak, given = template.cloaked(given)
        rendered = template.jinja.render(**given, add_generation_prompt=add_generation_prompt)
        if add_generation_prompt:
            spans = []
        elif template.jinja.marks_generation:
            spans = rendered.generated
        else:
            spans = self._answers(template, given, rendered.text)
        return self._encoded(rendered.text, cloak, spans)

    def _given(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the template is given: plain values alone, by the names that transformers gives them."""
        if not messages:
            raise OwnlmError("a conversation needs at least one message; this one is empty")
        for number, tool in enumerate(tools or (), start=1):
            if not isinstance(tool, Mapping):
                raise OwnlmError(f"tool {number} is no JSON schema; write what it is called and takes as a mapping")
        return {
            **self.tokenizer.names,
            "documents": None,
            **{name: _plain(value, name) for name, value in variables.items()},
            "messages": [_message(message, number) for number, message in enumerate(messages, start=1)],
            "tools": _plain(list(tools), "tools") if tools is not None else None,
        }

    def _template(self, tools: Sequence[Any] | None) -> "_Compiled":
        text = self._text_for(tools)
        if text not in self._compiled:
            self._compiled[text] = _Compiled(text, self.tokenizer)
        return self._compiled[text]

    def _text_for(self, tools: Sequence[Any] | None) -> str:
        if tools is not None and _TOOLS_TEMPLATE in self.templates:
            return self.templates[_TOOLS_TEMPLATE]
        if DEFAULT_TEMPLATE in self.templates:
            return self.templates[DEFAULT_TEMPLATE]
        if len(self.templates) > 1:
            raise OwnlmError(
                f"the model has chat templates for {', '.join(self.templates)}, but none for plain talk; "
                "add a chat_template.jinja"
            )
        return next(iter(self.templates.values()))

    def _answers(self, template: "_Compiled", given: Mapping[str, Any], whole: str) -> list[tuple[int, int]]:
        """Where the answers stand in the conversation as it is written, in characters."""
        messages = given["messages"]
        ends = [self.tokenizer.token_bytes(id).decode("utf-8", "replace") for id in self.stop_ids]
        spans = []
        for place, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            if place == 0:
                raise OwnlmError("the conversation begins with an answer; to train on it, begin with a question")

            def text(turns: list[Any], prompt: bool = False) -> str:
                return template.jinja.render(**{**given, "messages": turns}, add_generation_prompt=prompt).text

            before, through = messages[:place], text(messages[: place + 1])
            prompt = text(before, prompt=True)
            start = len(prompt)
            if not through.startswith(prompt):
                # The header of a prompt may say more than that of an answer: they are alike to where the answer begins.
                probe = {**message, "content": f"{_PROBE}{message.get('content') or ''}"}
                start = _alike(prompt, text([*before, probe]))
                if start < len(text(before)) or not through.startswith(prompt[:start]):
                    raise _untold(place)
            if not whole.startswith(through):
                raise _untold(place)
            answer = through[start:]
            found = [answer.rfind(end) + len(end) for end in ends if end in answer]
            spans.append((start, start + max(found, default=len(answer))))
        return spans

    def _encoded(self, text: str, cloak: Cloak, spans: Sequence[tuple[int, int]]) -> Rendered:
        ids: list[int] = []
        trained: list[bool] = []
        place = 0
        for piece, hidden in cloak.pieces(text):
            if hidden:
                new = self._go_on(cloak.names[piece], plain=True)
                located = [(id, place, place + 1) for id, _, _ in new]
            else:
                new = self._go_on(piece, plain=False, first=not ids)
                located = [(id, place + first, place + last) for id, first, last in new]
            for id, first, last in located:
                ids.append(id)
                trained.append(any(start < max(last, first + 1) and first < end for start, end in spans))
            place += len(piece)
        return Rendered(ids=ids, trained=trained)

    def _go_on(self, text: str, *, plain: bool, first: bool = False) -> list[tuple[int, int, int]]:
        """(id, first character, last) of each token of a text that goes on from another, or begins all."""
        pipeline = self.tokenizer.plain if plain else self.tokenizer.whole
        # A space that encoding puts before a text has no place within one: encode after a line break, and take it off.
        lead = "\n" if self.tokenizer.puts_space_before and not first else ""
        encoded = pipeline.encode(lead + text, add_special_tokens=False)
        skipped = 0
        if lead:
            alone = pipeline.encode(lead, add_special_tokens=False).ids
            if encoded.ids[: len(alone)] == alone:
                skipped = len(alone)
            else:
                lead, encoded = "", pipeline.encode(text, add_special_tokens=False)
        ids, offsets = encoded.ids[skipped:], encoded.offsets[skipped:]
        if plain and not self.tokenizer.own and set(ids) & set(self.tokenizer.special.values()):
            ids = self.tokenizer.encode(text)
            offsets = [(0, len(text))] * len(ids)
        return [(id, start - len(lead), end - len(lead)) for id, (start, end) in zip(ids, offsets, strict=True)]


class _Compiled:
    """A template made ready for one tokenizer: which names it and the tokenizer hold special."""

    def __init__(self, text: str, tokenizer: "Tokenizer") -> None:
        self.jinja = JinjaTemplate(text)
        special = set(tokenizer.special)
        literals = "\0".join(self.jinja.literals)
        # Tokens that are added but not special, where the template works with them; spaces it holds as text.
        working = {name for name in tokenizer.added_names if name in literals and not name.isspace()}
        names = special | working
        # What an answer of the model said in such tokens, and its thoughts, go back as it said them.
        spoken = {name for name in names if name not in special or "think" in name.lower()}
        # What closes "<think>" is spoken too, also where it is no token of its own: templates cut there.
        spoken |= {f"</{name[1:]}" for name in spoken if name.startswith("<") and not name.startswith("</")}
        self._hidden = names_pattern(names)
        self._hidden_in_answers = names_pattern(names - spoken)
        firsts = {name[0] for name in names if name}
        self._firsts = names_pattern(firsts)
        self._first_characters = "".join(firsts)

    def cloaked(self, given: dict[str, Any]) -> tuple[Cloak, dict[str, Any]]:
        """The template's input with all names in it hidden."""
        from_outside = {key: given[key] for key in ("messages", "tools", "documents")}
        cloak = Cloak(from_outside, self.jinja.text)
        hidden = self._hide(cloak, given, self._hidden, self._hidden_in_answers)
        if not any(first in text for text in strings_in(from_outside) for first in self._first_characters):
            return cloak, hidden
        # Could the template put a name together out of parts of what users said? Hide each first character too, so
        # that it cannot: where it then writes other special tokens, that is what it is given.
        careful = Cloak(from_outside, self.jinja.text)
        apart = self._hide(careful, given, self._firsts, self._hidden_in_answers)
        if self._special_in(hidden) != self._special_in(apart):
            return careful, apart
        return cloak, hidden

    def _special_in(self, given: dict[str, Any]) -> Counter[str] | None:
        try:
            text = self.jinja.render(**given, add_generation_prompt=False).text
        except OwnlmError:
            return None  # told when it is rendered for good
        return Counter(match[0] for match in self._hidden.finditer(text))

    @staticmethod
    def _hide(
        cloak: Cloak, given: dict[str, Any], names: re.Pattern[str], names_in_answers: re.Pattern[str]
    ) -> dict[str, Any]:
        messages = [
            cloak.hide(message, names_in_answers if message.get("role") == "assistant" else names)
            for message in given["messages"]
        ]
        others = {key: cloak.hide(given[key], names) for key in ("tools", "documents")}
        return {**given, **others, "messages": messages}


def chat_template_of(
    source: Path | str | Mapping[str, str], tokenizer: "Tokenizer"
) -> "ChatTemplate | ModelTemplate | None":
    """The template of a model folder, or of a template's text, or of several by name; None where there is none.

    Our own template has a renderer of its own, which puts special tokens by id.
    """
    templates = read_templates(source) if isinstance(source, Path) else source
    if isinstance(templates, str):
        templates = {DEFAULT_TEMPLATE: templates}
    if not templates:
        return None
    if tokenizer.own and templates.get(DEFAULT_TEMPLATE) == CHAT_TEMPLATE:
        return ChatTemplate(tokenizer)
    return ModelTemplate(templates, tokenizer)


def _message(message: Any, number: int) -> dict[str, Any]:
    """A message as templates want it: no key that says None, and the thoughts by each name that is in use."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise OwnlmError(f'message {number} is no message; write {{"role": "user", "content": "..."}}')
    plain = {key: value for key, value in _plain(message, f"message {number}").items() if value is not None}
    thoughts = next((plain[name] for name in _REASONING if name in plain), None)
    if thoughts is not None:
        plain = {"thinking": thoughts, **plain, "reasoning_content": thoughts}
    return plain


def _plain(value: Any, where: str) -> Any:
    """A copy in JSON's types alone: what other objects could do is not for a template."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, where) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, where) for inner in value]
    raise OwnlmError(f"{where} holds a {type(value).__name__}; use text, numbers, lists and mappings")


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _untold(place: int) -> OwnlmError:
    return OwnlmError(
        f"which tokens of message {place + 1} are the answer cannot be told, for the chat template rewrites the turns "
        "before it; train with a template that marks them by {% generation %}"
    )
