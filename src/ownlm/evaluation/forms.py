"""From a line's object to an item: the user's forms, and those in which known sets are published.

    {"question": ..., "choices": [...], "answer": 0}                  Choice      (docs/evaluation.md has them all)
    {"prompt": ..., "answer": ...}                                    Question
    hellaswag, arc-easy, arc-challenge, piqa                          Choice, with lm-eval's prompt

Each function takes one object; ValueError says what is wrong with it, and the reader adds where.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ownlm.evaluation.tasks.answers import Question
from ownlm.evaluation.tasks.choices import Choice
from ownlm.evaluation.tasks.group_swap import Swap
from ownlm.evaluation.tasks.task import Prompt

Fields = Mapping[str, Any]

_PROMPTS = ("question", "prompt", "query", "messages")
_ANSWERS = ("answer", "answers", "completion")


def choice_of(fields: Fields) -> Choice:
    """The right one by place, by its text, or by a letter; `query` and `gold` as published sets have it."""
    choices = _choices(fields.get("choices"))
    right = fields.get("answer", fields.get("gold"))
    return Choice(prompt=prompt_of(fields), choices=choices, answer=_place(right, choices))


def question_of(fields: Fields) -> Question:
    """Messages may end in the assistant's answer, as in data to tune on."""
    if not any(name in fields for name in _ANSWERS):
        messages = _mappings(fields.get("messages"))
        if not messages or messages[-1].get("role") != "assistant":
            raise ValueError('it has no "answer"')
        answer = _text(messages[-1].get("content"), "answer")
        return Question(prompt=prompt_of({"messages": messages[:-1]}), answers=(answer,))
    given = next(fields[name] for name in _ANSWERS if name in fields)
    answers = given if isinstance(given, list) else [given]
    if not answers:
        raise ValueError("its answers are none")
    # Sums are often written as numbers.
    texts = [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in answers]
    return Question(prompt=prompt_of(fields), answers=tuple(_text(one, "answer") for one in texts))


def swap_of(fields: Fields) -> Swap:
    sentence, groups = _text(fields.get("sentence"), "sentence"), fields.get("groups")
    if sentence.count("{}") != 1 or not sentence.partition("{}")[2].strip():
        raise ValueError("its sentence needs one {} for the group's name, and words behind it")
    if not isinstance(groups, list) or len(groups) != 2:
        raise ValueError('its "groups" must be two names')
    one, other = (_text(group, "group") for group in groups)
    return Swap(about=str(fields.get("about", "")), sentence=sentence, groups=(one, other))


def prompt_of(fields: Fields) -> Prompt:
    name = next((name for name in _PROMPTS if name in fields), None)
    if name is None:
        raise ValueError(f"it has none of {', '.join(_PROMPTS)}")
    if name == "messages":
        given = fields["messages"]
        messages = [one for one in _mappings(given) if isinstance(one.get("role"), str) and "content" in one]
        if not messages or len(messages) < len(given):
            raise ValueError('its messages must be a list such as [{"role": "user", "content": "Hello"}]')
        return Prompt(text=None, messages=tuple(messages))
    text = _text(fields[name], name)
    return Prompt.of(f"Question: {text}\nAnswer:", text) if name == "question" else Prompt.of(text)


def hellaswag(fields: Fields) -> Choice:
    """rowanz/hellaswag's own lines, or query, choices, gold with the brackets taken out already."""
    if "query" in fields:
        return choice_of(fields)
    second = _text(fields.get("ctx_b", ""), "ctx_b", empty=True).capitalize()
    context = f"{_text(fields.get('ctx_a'), 'ctx_a')} {second}"
    endings = tuple(map(_without_brackets, _choices(fields.get("endings"))))
    text = _without_brackets(f"{_text(fields.get('activity_label'), 'activity_label')}: {context}")
    return Choice(prompt=Prompt.of(text), choices=endings, answer=_place(_number(fields.get("label")), endings))


def arc(fields: Fields) -> Choice:
    """AI2's own lines, the hub's, or query, choices, gold."""
    if "query" in fields:
        item = choice_of(fields)
        return Choice(prompt=_asked(_text(fields["query"], "query")), choices=item.choices, answer=item.answer)
    question: Any = fields.get("question")
    given: Any = fields.get("choices")
    if isinstance(question, Mapping):
        question, given = question.get("stem"), question.get("choices")
    if isinstance(given, Mapping):
        given = [{"label": label, "text": text} for label, text in zip(*_columns(given), strict=False)]
    labels, texts = ([one.get(name) for one in _mappings(given)] for name in ("label", "text"))
    choices = _choices(texts)
    if fields.get("answerKey") not in labels:
        raise ValueError("its answerKey is none of its labels")
    prompt = _asked(f"Question: {_text(question, 'question')}")
    return Choice(prompt=prompt, choices=choices, answer=labels.index(fields["answerKey"]))


def piqa(fields: Fields) -> Choice:
    """The set's own lines with the label in them, or query, choices, gold."""
    if "query" in fields:
        item = choice_of(fields)
        return Choice(prompt=_asked(_text(fields["query"], "query")), choices=item.choices, answer=item.answer)
    choices = _choices([fields.get("sol1"), fields.get("sol2")])
    prompt = _asked(f"Question: {_text(fields.get('goal'), 'goal')}")
    return Choice(prompt=prompt, choices=choices, answer=_place(_number(fields.get("label")), choices))


def headline(fields: Fields) -> tuple[str, bool]:
    """openai/evals' sarcasm samples: the headline is what the user says, "1" means sarcastic."""
    said = [one.get("content") for one in _mappings(fields.get("input")) if one.get("role") == "user"]
    if len(said) != 1 or fields.get("ideal") not in ("0", "1"):
        raise ValueError('it has no "input" with one user message and "ideal" of "0" or "1"')
    return _text(said[0], "headline"), fields["ideal"] == "1"


CHOICE_SETS: Mapping[str, Callable[[Fields], Choice]] = {
    "hellaswag": hellaswag,
    "arc-easy": arc,
    "arc-challenge": arc,
    "piqa": piqa,
}


def _asked(question: str) -> Prompt:
    return Prompt.of(f"{question.rstrip()}\nAnswer:")


def _without_brackets(text: str) -> str:
    """What lm-eval does to HellaSwag's WikiHow part."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _choices(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise ValueError("its choices must be a list of at least two texts")
    return tuple(_text(one, "choice") for one in given)


def _place(right: Any, choices: tuple[str, ...]) -> int:
    if isinstance(right, str) and right in choices:
        return choices.index(right)
    if isinstance(right, str) and len(right) == 1 and "A" <= right <= "Z":
        right = ord(right) - ord("A")
    if isinstance(right, int) and not isinstance(right, bool) and 0 <= right < len(choices):
        return right
    raise ValueError(f"its answer is none of its {len(choices)} choices: give its place (from 0), letter or text")


def _mappings(given: Any) -> list[Mapping[str, Any]]:
    return [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []


def _columns(given: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    labels, texts = given.get("label"), given.get("text")
    return (labels, texts) if isinstance(labels, list) and isinstance(texts, list) else ([], [])


def _number(label: Any) -> Any:
    return int(label) if isinstance(label, str) and label.isdecimal() and len(label) < 3 else label


def _text(value: Any, name: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value.strip()):
        what = "empty" if isinstance(value, str) else "no text"
        raise ValueError(f"its {name} is {what}")
    return value
