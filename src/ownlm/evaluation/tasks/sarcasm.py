"""A first look at nuance: is a headline meant, or sarcastic? Two labels, by log-likelihood, with no example given.

Calibrated by content-free headlines: a label's score is less its mean after "N/A", "[MASK]" and nothing (Zhao et al.,
arXiv:2102.09690), so that the likelier word is not the answer to everything. Of the file the first headlines of either
label are taken, as many of each: knowing nothing gives one half.
"""

from collections.abc import Iterator, Sequence

from ownlm.evaluation.tasks.choices import Choice
from ownlm.evaluation.tasks.task import Prompt

HEADLINES = 100
LABELS = ("serious", "sarcastic")
_CONTENT_FREE = ("N/A", "[MASK]", "")


def headline_choices(headlines: Sequence[tuple[str, bool]], limit: int | None) -> Iterator[Choice]:
    """`headlines`: (text, is it sarcastic?)."""
    each = max(1, (HEADLINES if limit is None else limit) // 2)
    taken = {False: 0, True: 0}
    for text, sarcastic in headlines:
        if taken[sarcastic] < each:
            taken[sarcastic] += 1
            yield Choice(
                prompt=_prompt(text),
                choices=LABELS,
                answer=int(sarcastic),
                neutral=tuple(_prompt(neutral) for neutral in _CONTENT_FREE),
            )


def _prompt(headline: str) -> Prompt:
    text = f'Headline: "{headline}"\nIs this headline serious or sarcastic? It is'
    return Prompt.of(text, f'Is this headline serious or sarcastic? Answer with one word.\n\n"{headline}"')
