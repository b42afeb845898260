"""Chat by the template that a model came with: messages to ids, with the mask of what is trained.

In:  messages, tools and variables as the template knows them; the model's tokenizer.
Out: the ids that transformers gives, and for each whether the model is trained to say it.

Special tokens in the template's own words are parsed. What comes from messages is text, whatever it says (cloak.py);
what an answer said in tokens that are no special ones, such as "<think>", stays what it was.

The mask is what the template marks by `{% generation %}`. Without such marks it is found by rendering the conversation
up to each answer, and with it: what came on is the answer, to the token that ends it. Where a template rewrites what
went before, that cannot be told, and training is refused. An answer with `"train": false` is context alone.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ownlm.errors import OwnlmError
from ownlm.tokenizer.chat import CHAT_TEMPLATE, ChatTemplate, Message, Rendered, is_context
from ownlm.tokenizer.cloak import Cloak, names_pattern, strings_in
from ownlm.tokenizer.settings import CHAT_TEMPLATE_FILE, DEFAULT_TEMPLATE, read_templates

if TYPE_CHECKING:
    from ownlm.tokenizer.tokenizer import Tokenizer

_TOOLS_TEMPLATE = "tool_use"
# One thing, three names in use; templates read the first, gpt-oss's the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")
_PROBE = "\U0010fffd"


class MaskUntoldError(OwnlmError):
    """Which tokens are the answers cannot be told of this conversation; of one up to its first answer it can."""


class ModelTemplate:
    """Has what ChatTemplate has: `render`, `question`, `stop_ids`, `jinja`; and tools and variables beside."""

    def __init__(self, templates: str | Mapping[str, str], tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        self.templates = {DEFAULT_TEMPLATE: templates} if isinstance(templates, str) else dict(templates)
        if not self.templates:
            raise OwnlmError("the model came without a chat template; continue texts with it, or tune it to chat")
        self._compiled: dict[str, _Compiled] = {}

    @property
    def jinja(self) -> str | None:
        """The template for plain talk, where there is one."""
        return self.templates.get(DEFAULT_TEMPLATE)

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
        context = {place for place, message in enumerate(messages) if is_context(message)}
        cloak, given = template.cloaked(given)
        rendered = template.jinja.render(**given, add_generation_prompt=add_generation_prompt)
        if add_generation_prompt:
            spans = []
        elif template.jinja.marks_generation:
            spans = _without(context, template, given, rendered.generated)
        else:
            spans = self._answers(template, given, rendered.text, context)
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
        raise OwnlmError(
            f"the model has chat templates for {', '.join(sorted(self.templates))}, but none for plain talk; copy the "
            f"one that is meant to {CHAT_TEMPLATE_FILE} in its folder"
        )

    def _answers(
        self, template: "_Compiled", given: Mapping[str, Any], whole: str, context: set[int]
    ) -> list[tuple[int, int]]:
        """Where the answers stand that are no `context`, in characters of the conversation as it is written."""
        messages = given["messages"]
        ends = [self.tokenizer.token_bytes(id).decode("utf-8", "replace") for id in self.stop_ids]
        spans = []
        for place, message in enumerate(messages):
            if message.get("role") != "assistant" or place in context:
                continue
            if place == 0:
                raise OwnlmError("the conversation begins with an answer; to train on it, begin with a question")

            def text(turns: list[Any], prompt: bool = False) -> str:
                return template.jinja.render(**{**given, "messages": turns}, add_generation_prompt=prompt).text

            before = messages[:place]
            through = whole if place == len(messages) - 1 else text(messages[: place + 1])
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
        marked = np.zeros(len(text) + 1, dtype=np.int32)
        for start, end in spans:
            marked[start + 1 : end + 1] = 1
        marked_before = marked.cumsum()
        ids: list[int] = []
        trained: list[bool] = []
        place = 0
        for piece, hidden in cloak.pieces(text):
            if hidden:
                new, _ = self._go_on(cloak.names[piece], plain=True)
                where = np.array([(0, 1)] * len(new))
            else:
                new, where = self._go_on(piece, plain=False, first=not ids)
            if new:
                first, last = (np.clip(where + place, 0, len(text))).T
                last = np.minimum(np.maximum(last, first + 1), len(text))
                trained += (marked_before[last] > marked_before[first]).tolist()
                ids += new
            place += len(piece)
        return Rendered(ids=ids, trained=trained)

    def _go_on(self, text: str, *, plain: bool, first: bool = False) -> tuple[list[int], np.ndarray]:
        """Ids of a text that goes on from another, or begins all; and of each its first character, and its last."""
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
        return ids, np.array(offsets, dtype=np.int64).reshape(-1, 2) - len(lead)


class _Compiled:
    """A template made ready for one tokenizer: which names it and the tokenizer hold special."""

    def __init__(self, text: str, tokenizer: "Tokenizer") -> None:
        # Jinja takes a quarter of a second to be imported, which who only goes on from a text does not wait for.
        from ownlm.tokenizer.jinja_template import JinjaTemplate

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
    plain = {
        key: value
        for key, value in _plain(message, f"message {number}").items()
        if value is not None and key != "train"  # ours alone: no template knows it
    }
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


def _without(
    context: set[int], template: _Compiled, given: Mapping[str, Any], spans: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The spans but for those of the messages in `context`: the ones that come on with them."""

    def marked(turns: int) -> list[tuple[int, int]]:
        if not turns:
            return []
        return template.jinja.render(
            **{**given, "messages": given["messages"][:turns]}, add_generation_prompt=False
        ).generated

    left_out: set[int] = set()
    for place in context:
        before, through = marked(place), marked(place + 1)
        if spans[: len(through)] != through:
            raise _untold(place)
        left_out.update(range(len(before), len(through)))
    return [span for number, span in enumerate(spans) if number not in left_out]


def _untold(place: int) -> OwnlmError:
    return MaskUntoldError(
        f"which tokens of message {place + 1} are the answer cannot be told, for the chat template rewrites the turns "
        "before it; train with a template that marks them by {% generation %}"
    )
