"""The stages of the quickstart, in order. Each is a command of its own; a finished one is not done again.

1 corpus ──▶ 2 tokenizer ──▶ 3 tokens, conversations ──▶ 4 base ──▶ 5 chat, control ──▶ 6 summary.json, report.html
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

from ownlm.artefact import Events, Watch, folder_lock, read_card, write_atomically
from ownlm.artefact.recipe import from_mapping, read_recipe, to_yaml
from ownlm.corpus import CorpusConfig, build_corpus, corpus_reference_lines
from ownlm.corpus.conversations import ConversationsConfig, build_conversations, told
from ownlm.corpus.make_tokenizer import make_tokenizer
from ownlm.corpus.shards import bytes_per_token, write_tokens
from ownlm.errors import OwnlmError
from ownlm.evaluation.run import Progress
from ownlm.journey.based import is_based, is_measured, quickstart_from
from ownlm.journey.control import control_steps
from ownlm.journey.narrator import Narrator
from ownlm.journey.recipe import JourneyPlan, QuickstartOptions, QuickstartRecipe, make_journey_plan, resolve
from ownlm.journey.results import CUT_SAMPLES, conclude
from ownlm.machine import EnergyMeter
from ownlm.model import ModelShape
from ownlm.report import REPORT_NAME, model_card, write_report
from ownlm.tokenizer import ChatTemplate, Tokenizer, cut
from ownlm.train import FinetuneRecipe, PretrainRecipe, finetune, pretrain
from ownlm.train.tuning_looks import check_questions

# Of the bytes read: one in ten tokens, for examples are short of letters and long of tokens. docs/LOG.md: what it buys.
EXAMPLES_SHARE = 0.06
OPTIONS, RECIPE, PLAN, SUMMARY = "options.yaml", "recipe.yaml", "journey.json", "summary.json"


def quickstart(
    out: str | Path = "runs/quickstart",
    options: QuickstartOptions | None = None,
    *,
    narrator: Narrator | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make a model that chats, from text or from an open model (options.base), or go on making it; returns the folder
    of all its parts. `progress` hears how far the asking before and after is.

    Raises train.Stopped when it was asked to stop: the same call goes on where it was.
    """
    run = Path(out)
    if options is not None and options.base is not None:
        return quickstart_from(run, options, narrator or Narrator(), progress=progress)
    with folder_lock(run):
        _refuse_foreign(run)
        journey = _Journey(run, options or QuickstartOptions(), narrator or Narrator())
        if not is_finished(run):
            journey.go()
    return run


def _refuse_foreign(run: Path) -> None:
    """A folder of somebody's own files is no place for a run: their report.html would be taken for ours."""
    if is_based(run):
        raise OwnlmError(f"{run} was begun from an open model; go on with it by --base, or name another --out")
    begun = any((run / name).is_file() for name in (OPTIONS, RECIPE))
    if not begun and any(not child.name.startswith(".") for child in run.iterdir()):
        raise OwnlmError(f"{run} holds other files and no run; name another --out")


def is_finished(run: Path) -> bool:
    """The report is written last, and beside an open model the measurement."""
    return (run / REPORT_NAME).is_file() or is_measured(run)


class _Journey:
    def __init__(self, run: Path, options: QuickstartOptions, narrator: Narrator) -> None:
        self.run, self.narrator = run, narrator
        self.recipe = _kept_recipe(run, options)
        self.record = Events(run / "journey.jsonl")
        self.plan = self._plan()

    def go(self) -> None:
        tell, recipe = self.narrator, self.recipe
        tell.say(f"plan: {self.plan.why}")
        tell.stage(1, "Gathering text", "A language model learns from text alone: here is what this one will read.")
        self._stage("corpus", lambda: build_corpus(self.run / "corpus", self._corpus_config(), report=tell.say))
        tell.say(f"corpus hash {read_card(self.run / 'corpus').content[:16]}")

        tell.stage(2, "Training the tokenizer", "It learns which pieces of words are frequent enough to get a number.")
        self._stage("tokenizer", lambda: make_tokenizer(self.run / "corpus", self.run / "tokenizer", recipe.tokenizer))
        tokenizer = Tokenizer.load(self.run / "tokenizer")
        # At the latest here, not after an hour of pretraining.
        check_questions(recipe.ask, ChatTemplate(tokenizer), recipe.pretrain.context)
        tell.cut([[piece.text for piece in cut(tokenizer, sample)] for sample in CUT_SAMPLES])

        tell.stage(3, "Turning text into tokens", "Whole documents are held out, to see what it makes of unread text.")
        self._stage("tokens", lambda: write_tokens(self.run / "corpus", self.run / "tokenizer", self.run / "tokens"))
        figures = read_card(self.run / "tokens").figures
        tell.say(
            f"{figures['train']['tokens']:,} training tokens of {bytes_per_token(figures)} bytes on average, "
            f"{sum(figures[name]['tokens'] for name in figures if name.startswith('validation')):,} held out"
        )
        self._stage("conversations", self._build_conversations)
        if recipe.chat is not None:
            for line in told(read_card(self.run / "conversations").figures):
                tell.say(line)

        tell.stage(4, "Pretraining", "Guess the next token, see which came, adjust; then the next ones.")
        self._train("pretrain", "base", self._pretrain)
        tell.stage(5, "Fine-tuning on conversations", "Now it learns to answer: only its own words are graded.")
        self._train("finetune", "chat", self._finetune)
        if self._wants_control():
            tell.say("a control: the same tuning of a model that has read nothing, to see what reading was for")
            self._train("control", "control", self._control)
        tell.stage(6, "Exam and report", "Questions that it never saw, before and after.")
        summary = conclude(self.run, recipe, self.plan, self.record)
        write_atomically(self.run / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        write_atomically(self.run / "chat" / "README.md", model_card(summary))
        write_report(self.run)
        tell.summary(summary)

    def _plan(self) -> JourneyPlan:
        path = self.run / PLAN
        if not path.is_file():
            plan = make_journey_plan(self.recipe)
            write_atomically(path, json.dumps(asdict(plan), indent=2) + "\n")
        return from_mapping(JourneyPlan, json.loads(path.read_text(encoding="utf-8")), str(path))

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a stage unless its folder is there, and note its minutes and energy."""
        if (self.run / name).exists():
            return None
        started, meter = monotonic(), EnergyMeter()
        result = work()
        self._note(name, started, meter)
        return result

    def _train(self, stage: str, folder: str, work: Callable[[Path, Watch], Path]) -> None:
        """Run a training stage; its energy stands in its own record, over all interruptions."""
        started = monotonic()
        try:
            work(self.run / folder, lambda event: self.narrator.training(stage, event))
        finally:
            self.narrator.trained(stage)
            self._note(stage, started, None)

    def _note(self, name: str, started: float, meter: EnergyMeter | None) -> None:
        minutes = (monotonic() - started) / 60
        self.record.write(
            "stage", 0, name=name, minutes=round(minutes, 4), watt_hours=meter.watt_hours() if meter else 0.0
        )

    def _corpus_config(self) -> CorpusConfig:
        """The recipe's, with no more of the default text than the plan can read, prose and code half and half."""
        corpus, read = self.recipe.corpus, self.plan.text_megabytes
        examples = min(corpus.example_megabytes, read * EXAMPLES_SHARE)
        half = (read - examples) / 2
        return replace(
            corpus,
            prose_megabytes=min(corpus.prose_megabytes, half),
            code_megabytes=min(corpus.code_megabytes, half),
            example_megabytes=examples,
            seed=self.recipe.seed,
        )

    def _build_conversations(self) -> Path:
        recipe = self.recipe
        config = ConversationsConfig(
            corpus=self.run / "corpus",
            chat=recipe.chat,
            from_text=recipe.corpus.text is not None and recipe.chat is None,
            seed=recipe.seed,
            conversations=recipe.conversations,
        )
        return build_conversations(self.run / "conversations", config)

    def _pretrain(self, out: Path, on_event: Watch) -> Path:
        recipe, plan = self.recipe, self.plan
        stage = replace(recipe.pretrain, seed=recipe.seed, steps=plan.pretrain_steps, minutes=plan.pretrain_minutes)
        return pretrain(
            PretrainRecipe(
                tokens=str(self.run / "tokens"),
                tokenizer=str(self.run / "tokenizer"),
                out=str(out),
                model=ModelShape(depth=plan.depth),
                train=stage,
                watch=recipe.watch,
            ),
            on_event=on_event,
            facts={"reference_lines": corpus_reference_lines(self.run / "corpus")},
        )

    def _finetune(self, out: Path, on_event: Watch) -> Path:
        plan = self.plan
        return self._tune(out, on_event, steps=plan.finetune_steps, minutes=plan.finetune_minutes)

    def _control(self, out: Path, on_event: Watch) -> Path:
        shares = self.recipe.shares
        steps = control_steps(self.run / "chat", min(1.0, shares.control / shares.finetune))
        return self._tune(out, on_event, steps=steps, minutes=None, from_scratch=True)

    def _wants_control(self) -> bool:
        """Where there is something to compare on, and the recipe gives it time."""
        return self.recipe.shares.control > 0 and (self.run / "conversations" / "choose.jsonl").is_file()

    def _tune(
        self,
        out: Path,
        on_event: Watch,
        *,
        steps: int | None,
        minutes: float | None,
        from_scratch: bool = False,
    ) -> Path:
        recipe = self.recipe
        return finetune(
            FinetuneRecipe(
                model=str(self.run / "base"),
                conversations=str(self.run / "conversations"),
                out=str(out),
                train=replace(recipe.finetune, seed=recipe.seed, steps=steps, minutes=minutes),
                ask=() if from_scratch else recipe.ask,
                from_scratch=from_scratch,
            ),
            on_event=on_event,
        )


def _kept_recipe(run: Path, options: QuickstartOptions) -> QuickstartRecipe:
    """The recipe that `run` was begun with; other options on it are refused, for nothing is overwritten."""
    path, asked = run / RECIPE, to_yaml(options)
    # Until there is a corpus nothing is decided: a mistyped option may be mended.
    if not path.is_file() or (options.given and not (run / "corpus").exists()):
        (run / PLAN).unlink(missing_ok=True)
        recipe = resolve(options)
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(run / OPTIONS, asked)
        write_atomically(path, to_yaml(recipe))
        return recipe
    kept = read_recipe(path, QuickstartRecipe)
    # The same options go on also after an upgrade whose own recipe says something else.
    same = options.recipe is None and (run / OPTIONS).is_file() and (run / OPTIONS).read_text("utf-8") == asked
    if options.given and not same and resolve(options) != kept:
        raise OwnlmError(
            f"{run} was begun with other options; go on with it by leaving the options out, "
            f"or begin anew beside it with --out {run}-2"
        )
    return kept
