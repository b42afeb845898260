"""Translations: what a model answers against the expected text, by chrF and BLEU.

Both are sacrebleu's, at its own settings (chrF2, BLEU with its 13a tokenizer), over all items together: their counts
add up, and the figure is made of the sums. Sources: chrF, Popović (WMT 2015); BLEU, Papineni et al. (ACL 2002); Post,
"A Call for Clarity in Reporting BLEU Scores" (arXiv:1804.08771).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ownlm.evaluation.metric import Floats, Metric, Row
from ownlm.evaluation.subject import Said
from ownlm.evaluation.tasks.answers import LIKELIHOOD, Answers


@dataclass(frozen=True, kw_only=True)
class Translation(Answers):
    kind: ClassVar[str] = "translation"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        chrf, bleu = _peers()
        return (Metric(name="chrf", figure=_figure(chrf)), Metric(name="bleu", figure=_figure(bleu)), *LIKELIHOOD)

    def rows(self, said: Sequence[Said]) -> list[dict[str, Row | None]]:
        # sacrebleu wants as many references for each segment; one that is repeated changes nothing.
        most = max(len(item.answers) for item in self.items)
        references = [[item.answers[min(place, len(item.answers) - 1)] for item in self.items] for place in range(most)]
        texts = [one.text.strip() for one in said]
        counts = [peer._extract_corpus_statistics(texts, references) for peer in _peers()]
        return [
            {"chrf": tuple(map(float, one)), "bleu": tuple(map(float, other))}
            for one, other in zip(*counts, strict=True)
        ]


def _peers() -> tuple[Any, Any]:
    # Lazily: it is needed for nothing else.
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(), BLEU()


def _figure(peer: Any) -> Callable[[Floats], Floats]:
    """sacrebleu has no name for "the score of these sums" that it promises, but its own paired tests use this one."""

    def figure(sums: Floats) -> Floats:
        flat = sums.reshape(-1, sums.shape[-1])
        scores = [peer._compute_score_from_stats([round(value) for value in row]).score for row in flat.tolist()]
        return np.array(scores, dtype=np.float64).reshape(sums.shape[:-1])

    return figure
