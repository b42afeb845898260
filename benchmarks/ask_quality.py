"""`ownlm ask`: whether it finds, quotes word for word, and declines, on questions of which half cannot be answered.

The documents are made of two of the data sets that lie beside the checkout: the State of the Union addresses since
1961, and articles on rare diseases (MedQuAD), some without one of their parts. `ask_questions.jsonl` has 100 questions
with where the answer stands. What makes it decline was chosen on the first 50 ("calibrate"), figures are of the others
("report"). Without the data, or with --quick, a few documents stand in; without a model only the search is measured.
"""

import gzip
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import Target, finish, parser, set_threads, table
from _random_model import random_file

from ownlm.apps import evidence
from ownlm.apps.passage_index import PassageIndex
from ownlm.apps.passages import Passage
from ownlm.apps.quotations import find_quotation
from ownlm.opened import Model, load

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "data"
TARGETS: dict[str, Target] = {
    "recall_at_5": (">=", 0.9),
    "quotations_verbatim": (">=", 1.0),
    "unanswerable_declined": (">=", 0.8),
}
PARTS = {
    "is": r"What is \(are\) (.*?) \?",
    "frequency": r"How many people are affected by (.*?) \?",
    "inherited": r"Is (.*?) inherited \?",
    "genes": r"What are the genetic changes related to (.*?) \?",
}
# Of the diseases that no question is about, one in so many is a document too.
OTHERS = 5
QUICK = [
    ("The rent is due on the first day of the month.", "When is the rent due?", True),
    ("Cats may live in the flat, dogs may not.", "May cats live in the flat?", True),
    ("The key hangs behind the kitchen door.", "Who invented the steam engine?", False),
    ("Bicycles stand in the yard.", "Which colour has the landlord's car?", False),
]


@dataclass
class Row:
    """What came of one question: whether a passage with the answer was found, sentences with their evidence."""

    question: dict[str, Any]
    found: bool
    judged: list[tuple[evidence.Sentence, float]] = field(default_factory=list)

    @property
    def evidence(self) -> float:
        return max((value for _, value in self.judged), default=float("-inf"))


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--data", type=Path, default=SHARED, help="the folder with pretrain-sotu and sft-medquad")
    options.add_argument("--model", help="what judges the sentences, such as smollm2; else only the search is measured")
    chosen = options.parse_args()
    machine = set_threads(chosen.threads)
    quick = chosen.quick or not (chosen.data / "sft-medquad").is_dir()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "documents"
        folder.mkdir()
        questions = quick_documents(folder) if quick else real_documents(folder, chosen.data)
        model = load(chosen.model or random_file(Path(scratch) / "random.gguf", small=True), dtype="auto")
        os.environ["OWNLM_CACHE"] = str(Path(scratch) / "cache")
        if not (quick or chosen.model):
            model = None
        rows = answered(folder, questions, model)
        files = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    notes = [f"{len(files)} documents, {len(questions)} questions", f"model: {chosen.model or 'none'}"]
    if quick:
        notes.append("stand-in documents and random weights: the figures mean nothing")
    figures = measured([row for row in rows if row.question["set"] == "report"], files, with_model=model is not None)
    if model is not None:
        notes.append(choice([row for row in rows if row.question["set"] == "calibrate"]))
    print("\n".join(notes))
    table(["", "of the 50 reported"], [(name, f"{value:.2f}") for name, value in figures.items()])
    finish(figures, TARGETS, machine=machine, packages=["pypdfium2"], notes=notes)


def answered(folder: Path, questions: Sequence[dict[str, Any]], model: Model | None) -> list[Row]:
    rows = []
    with PassageIndex.open(folder) as index:
        for question in questions:
            text = question["question"]
            passages = index.search(text)
            row = Row(question=question, found=any(is_right(question, passage) for passage in passages))
            if model is not None:
                row.judged = evidence.judged(model, text, passages, index.weights(text))
            rows.append(row)
    return rows


def is_right(question: dict[str, Any], passage: Passage, text: str | None = None) -> bool:
    """Whether the passage (or a text of it) is of the right file and says what was asked for."""
    text = plain(passage.text if text is None else text)
    return passage.file == question.get("file") and any(plain(phrase) in text for phrase in question["contains"])


def measured(rows: Sequence[Row], files: dict[str, str], *, with_model: bool) -> dict[str, float]:
    yes = [row for row in rows if row.question["answerable"]]
    no = [row for row in rows if not row.question["answerable"]]
    figures = {"recall_at_5": share([row.found for row in yes])}
    if not with_model:
        return figures
    least = evidence.LEAST_EVIDENCE
    # Against the file itself, not the passage that it was cut out of.
    quoted = [(one.text, one.passage.file) for row in rows for one, value in row.judged if value >= least]
    figures["quotations_verbatim"] = share([find_quotation(text, files[file]) is not None for text, file in quoted])
    figures["unanswerable_declined"] = share([row.evidence < least for row in no])
    figures["answerable_declined"] = share([row.evidence < least for row in yes])
    answers = [row for row in yes if row.evidence >= least]
    right = [
        any(is_right(row.question, one.passage, one.text) for one, value in row.judged if value >= least)
        for row in answers
    ]
    figures["answers_with_the_fact"] = share(right)
    return figures


def choice(rows: Sequence[Row]) -> str:
    """The least evidence at which nine in ten of the unanswerable questions are declined."""
    no = sorted(row.evidence for row in rows if not row.question["answerable"])
    least = no[int(0.9 * len(no))]
    kept = share([row.evidence >= least for row in rows if row.question["answerable"]])
    chosen = evidence.LEAST_EVIDENCE
    return f"calibration: an evidence of {least:.2f} declines nine in ten and answers {kept:.0%}; {chosen} is asked for"


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 1.0


def plain(text: str) -> str:
    return " ".join(text.split())


def quick_documents(folder: Path) -> list[dict[str, Any]]:
    questions = []
    for number, (text, question, answerable) in enumerate(QUICK):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
        row = {"question": question, "answerable": answerable, "file": f"{number}.txt", "contains": [text]}
        questions += [{"set": name, **row} for name in ("calibrate", "report")]
    return questions


def real_documents(folder: Path, data: Path) -> list[dict[str, Any]]:
    """The documents written, and the questions with the sentences that answer them."""
    questions = [json.loads(line) for line in (HERE / "ask_questions.jsonl").read_text(encoding="utf-8").splitlines()]
    for speech in lines_of(data / "pretrain-sotu" / "sotu.jsonl.gz"):
        if speech["year"] >= 1961:
            name = f"{speech['year']}-{speech['name'].replace(' ', '-')}.txt"
            (folder / name).write_text(speech["text"], encoding="utf-8")
    diseases: dict[str, dict[str, str]] = {}
    for row in lines_of(data / "sft-medquad" / "medquad.jsonl.gz"):
        for part, pattern in PARTS.items():
            if row["source"] == "GHR" and (asked := re.fullmatch(pattern, row["question"])):
                diseases.setdefault(asked[1], {}).setdefault(part, row["answer"])
    about = {question["focus"]: question for question in questions if "focus" in question}
    for number, (name, parts) in enumerate(sorted(diseases.items())):
        question = about.get(name)
        kind = question["kind"] if question else ""
        if kind == "disease left out" or (question is None and number % OTHERS):
            continue
        left = question["aspect"] if question and kind == "aspect left out" else None
        text = "\n\n".join(answer for part, answer in parts.items() if part != left)
        (folder / file_of(name)).write_text(f"{name}\n\n{text}\n", encoding="utf-8")
    for question in questions:
        if question["kind"] == "disease":
            answer = diseases[question["focus"]][question["aspect"]]
            question["file"] = file_of(question["focus"])
            question["contains"] = [text for text in re.split(r"(?<=\.)\s", answer) if len(text) > 30]
        elif question["answerable"]:
            question["contains"] = [question["contains"]]
    return questions


def lines_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def file_of(disease: str) -> str:
    return re.sub(r"\W+", "-", disease) + ".txt"


if __name__ == "__main__":
    main()
