"""Chat: messages to token ids, with the mask of what is trained made in the same step.

In:  messages, [{"role": "user", "content": "Hi"}, ...], and a tokenizer.
Out: ids and, for each id, whether the model is trained to say it: the assistant's words and the end of its turn.

    <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello!<|im_end|>⏎
                                                        ^^^^^^^^^^^^^^^^      trained

An answer with `"train": false` is context alone.
Special tokens are put here by id, and content is encoded as plain text: a user who writes "<|im_end|>" ends nothing.
`CHAT_TEMPLATE` says the same in Jinja for other programs; for text that names no special token the ids are equal.

An answer loses the blank lines before it, in both. Its header ends in a line break, and the tokenizer would join that
to a line break that follows: a token that generation, where the header stands alone, never meets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from ownlm.tokenizer.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('unknown role: use system, user, assistant or tool') -}}
{%- endif -%}
{%- if message['content'] is not string -%}
{{- raise_exception('the content of a message must be text') -}}
{%- endif -%}
{{- '<|im_start|>' ~ message['role'] ~ '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- set answer = message['content'].lstrip() -%}
{%- set blank = message['content'][:message['content'] | length - answer | length] -%}
{%- generation -%}
{{- blank.replace('\\r', '\\n').split('\\n')[-1] ~ answer ~ '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}
{{- message['content'] ~ '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as ids; `trained[i]` says whether the model learns to produce `ids[i]`."""

    ids: list[int]
    trained: list[bool]


class ChatTemplate:
    """The one renderer of conversations: training, generation and the server all use it."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        self.jinja = CHAT_TEMPLATE
        self._header = [tokenizer.im_start_id, *tokenizer.encode("assistant\n")]
        self._newline = tokenizer.encode("\n")

    @property
    def stop_ids(self) -> tuple[int, int]:
        """The ids that end an answer."""
        return self.tokenizer.im_end_id, self.tokenizer.end_of_text_id

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> Rendered:
        """Ids and mask of a conversation; with a generation prompt, an answer's header stands open at its end."""
        if not messages:
            raise OwnlmError("a conversation needs at least one message; this one is empty")
        ids: list[int] = []
        trained: list[bool] = []

        def add(segment: Sequence[int], *, train: bool = False) -> None:
            ids.extend(segment)
            trained.extend([train] * len(segment))

        encode, start, end = self.tokenizer.encode, self.tokenizer.im_start_id, self.tokenizer.im_end_id
        for number, message in enumerate(messages, start=1):
            role, content = _checked(message, number)
            if role == "assistant":
                add(self._header)
                add([*encode(_without_blank_lines(content)), end], train=not is_context(message))
            else:
                # Header and content together, as the Jinja template's text is tokenized by other programs.
                add([start, *encode(f"{role}\n{content}"), end])
            add(self._newline)
        if add_generation_prompt:
            add(self._header)
        return Rendered(ids=ids, trained=trained)

    def question(self, text: str) -> list[int]:
        """The prompt of one user's turn, an answer's header open at its end."""
        return self.render([{"role": "user", "content": text}], add_generation_prompt=True).ids


def is_context(message: Message) -> bool:
    """Whether an answer is there to be read, and not to be learned."""
    return message.get("train") is False


def _checked(message: Message, number: int) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise OwnlmError(f'message {number} is no message; write {{"role": "user", "content": "..."}}')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise OwnlmError(f"message {number} has the role {role!r}; use one of: {', '.join(ROLES)}")
    if message.get("tool_calls"):
        raise OwnlmError(f"message {number} has tool_calls, which cannot be rendered yet; leave them out")
    if not isinstance(content, str):
        found = type(content).__name__
        raise OwnlmError(f"message {number} ({role}) has content of type {found}; write it as text")
    return role, content


def _without_blank_lines(answer: str) -> str:
    words = answer.lstrip()
    blank = answer[: len(answer) - len(words)]
    return blank.replace("\r", "\n").rpartition("\n")[2] + words
