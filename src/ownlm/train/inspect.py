"""What the loss will see, looked at before the first step: no weights are loaded, nothing is written.

In:  lines of a conversations artefact, the model's tokenizer and template, the plan's context and seed.
Out: the first rows exactly as training gets them (tuning_rows), token by token, and the set's figures.

    row   <|im_start|> user ⏎ Hi <|im_end|> ⏎ <|im_start|> assistant ⏎ Yes . <|im_end|> ⏎ | <|im_start|> ...
    loss                                                                ^^^ ^ ^^^^^^^^^^
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ownlm.corpus.conversations.told import told_personal
from ownlm.tokenizer import ChatTemplate, ModelTemplate, Tokenizer
from ownlm.tokenizer.special import END_OF_TEXT
from ownlm.train.batch import IGNORE, Batch
from ownlm.train.conversations import ConversationRows, render_examples
from ownlm.train.mixture import MixedRows, tuning_rows
from ownlm.train.render import Counts, Line


@dataclass(frozen=True, kw_only=True)
class SeenToken:
    """`document` numbers the examples of the set: where it changes, no token sees across."""

    id: int
    text: str
    trained: bool
    special: bool
    document: int


@dataclass(frozen=True, kw_only=True)
class SeenRow:
    """`replay`: of the set that is not to be forgotten."""

    tokens: list[SeenToken]
    padding: int
    replay: bool = False


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """`ended` counts the examples whose last trained token ends an answer or a text; lengths are in tokens.

    All figures but those of `replay` are of the set itself.
    """

    rows: list[SeenRow]
    counts: Counts
    replay: Counts | None
    replay_share: float
    context: int
    rows_an_epoch: int
    filled: float
    shortest: int
    longest: int
    ended: int

    @property
    def trained_share(self) -> float:
        return self.counts.trained_tokens / self.counts.tokens

    def as_json(self) -> dict[str, Any]:
        """For programs: ids, texts, masks and documents of each row, and the figures."""
        figures = {name: getattr(self, name) for name in vars(self) if name not in ("rows", "counts", "replay")}
        return {
            "rows": [
                {
                    "ids": [token.id for token in row.tokens],
                    "texts": [token.text for token in row.tokens],
                    "trained": [token.trained for token in row.tokens],
                    "special": [token.special for token in row.tokens],
                    "documents": [token.document for token in row.tokens],
                    "padding": row.padding,
                    "replay": row.replay,
                }
                for row in self.rows
            ],
            "counts": asdict(self.counts),
            "replay": None if self.replay is None else asdict(self.replay),
            "figures": {**figures, "trained_share": round(self.trained_share, 4)},
        }


def inspect_lines(
    lines: Iterable[Line],
    template: ChatTemplate | ModelTemplate | None,
    tokenizer: Tokenizer,
    *,
    context: int,
    seed: int,
    rows: int,
    replayed: Iterable[Line] = (),
    replay_share: float = 0.0,
) -> Inspection:
    """The first `rows` rows that a run with this context and seed trains on. OwnlmError where none would.

    `replayed`: lines of which the share `replay_share` of the rows is.
    """
    examples, counts = render_examples(lines, template, context=context, tokenizer=tokenizer)
    others, other_counts = (
        render_examples(replayed, template, context=context, tokenizer=tokenizer) if replay_share else ([], None)
    )
    read = tuning_rows(examples, others, share=replay_share, context=context, seed=seed)
    an_epoch = ConversationRows(examples, context=context, seed=seed).rows_in_first_epoch()
    lengths = [len(example.ids) for example in examples]
    # A document's end may be none of an answer's.
    ends = {*(template.stop_ids if template else ()), *tokenizer.end_ids, tokenizer.special.get(END_OF_TEXT)}
    return Inspection(
        rows=[
            replace(row, replay=isinstance(read, MixedRows) and read.is_replay(number))
            for number, row in enumerate(_seen(read.batch(0, min(rows, an_epoch)), tokenizer))
        ],
        counts=counts,
        replay=other_counts,
        replay_share=replay_share,
        context=context,
        rows_an_epoch=an_epoch,
        filled=round(sum(lengths) / (an_epoch * (context + 1)), 4),
        shortest=min(lengths),
        longest=max(lengths),
        ended=sum(int(example.ids[example.trained][-1]) in ends for example in examples),
    )


def figure_lines(seen: Inspection, personal: dict[str, Any] | None = None) -> list[str]:
    """The figures in words; `personal` as the card of the conversations has it."""
    counts, total = seen.counts, seen.counts.conversations + seen.counts.documents
    lines = [
        f"{counts.conversations:,} conversations and {counts.documents:,} documents make {counts.examples:,} examples "
        f"of {seen.shortest:,} to {seen.longest:,} tokens, {counts.tokens / counts.examples:,.0f} on average",
        f"{counts.trained_tokens:,} of {counts.tokens:,} tokens are trained ({seen.trained_share:.1%})",
        f"once through the set is {seen.rows_an_epoch:,} rows of {seen.context:,} tokens, {seen.filled:.1%} filled",
    ]
    if seen.replay is not None:
        lines.append(
            f"{seen.replay_share:.0%} of the rows are of replay: {seen.replay.examples:,} examples, "
            f"{seen.replay.tokens:,} tokens"
        )
    if seen.ended < counts.examples:
        lines.append(
            f"{counts.examples - seen.ended:,} examples do not train the end of an answer or text, being cut short"
            if seen.ended
            else "no example trains the end of an answer: the model would never learn to stop; check the template"
        )
    shares = {
        f"longer than the context, shortened ({counts.turns_left_out:,} whole turns left out); a larger train.context "
        "keeps more": counts.shortened,
        "documents longer than the context, cut into several examples": counts.cut,
        "conversations split, one example an answer, for the template rewrites earlier turns": counts.split,
        "left out, with nothing to train on": counts.without_target,
        "left out, not taken by the chat template": counts.refused,
    }
    lines += [f"{count:,} ({count / total:.1%}) {what}" for what, count in shares.items() if count]
    lines += [f"  {refusal}" for refusal in counts.refusals]
    return lines + ([] if personal is None else list(told_personal(personal)))


def _seen(batch: Batch, tokenizer: Tokenizer) -> list[SeenRow]:
    special = set(tokenizer.special.values())
    rows = []
    for ids, targets, documents in zip(
        batch.tokens_BT.tolist(), batch.targets_BT.tolist(), batch.documents_BT.tolist(), strict=True
    ):
        # The target at a place is the token after it. A row's last target stands in no input.
        trained = [False, *(target != IGNORE for target in targets)]
        if targets[-1] != IGNORE:
            ids, documents = [*ids, targets[-1]], [*documents, documents[-1]]
        assert all(target in (IGNORE, id) for target, id in zip(targets, ids[1:], strict=False))
        tokens = [
            SeenToken(
                id=id,
                text=tokenizer.token_bytes(id).decode("utf-8", "backslashreplace"),
                trained=is_trained,
                special=id in special,
                document=document,
            )
            for id, is_trained, document in zip(ids, trained, documents, strict=False)
            if document >= 0
        ]
        rows.append(SeenRow(tokens=tokens, padding=len(ids) - len(tokens)))
    return rows
