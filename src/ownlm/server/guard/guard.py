"""A policy at work: whatever is asked of a model and whatever it says passes here, in every dialect.

    Service.answering ── read ──▶ input rules ─▶ the engine, or a refusal in its stead
    Answering.bunches ── said ──▶ output rules ─▶ pieces that may be sent
    reading.in_groups ── settle ─▶ input rules of embeddings and ranking

Every decision is in the log, durably, before anything of it is sent.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client import Counter

from ownlm.engine import Request
from ownlm.server.errors import ApiError
from ownlm.server.guard.asked import AskedCheck
from ownlm.server.guard.decision import Decision
from ownlm.server.guard.find import LONGEST
from ownlm.server.guard.judge import JudgeFailed, judges_of
from ownlm.server.guard.log import DecisionLog
from ownlm.server.guard.policy import Policy, Rule
from ownlm.server.guard.refusal import quiet_id, refusal_piece
from ownlm.server.guard.said import BEFORE, SaidCheck
from ownlm.server.hosted import Hosted
from ownlm.server.logs import request_id
from ownlm.server.principal import Principal
from ownlm.tokenizer import Tokenizer, fill_marks

if TYPE_CHECKING:
    from ownlm.server.answering import Answering, Asked, Bunch

log = logging.getLogger("ownlm.server")

# Tokens before an answer that are read with it: at least as many characters as any rule's longest match.
_BEFORE = LONGEST + BEFORE
# A text as long as this is looked at in a thread.
_LONG = 4096


class Guard:
    """`find`: a served model by its name. `close` it when the server ends."""

    def __init__(self, policy: Policy, decisions: DecisionLog, find: Callable[[str], Hosted | None]) -> None:
        self._rules, self._log = policy.rules, decisions
        self._judges = judges_of(policy.rules, find)
        self.counter: Counter | None = None

    def hides(self, names: Sequence[str], principal: Principal) -> bool:
        """Does a rule change what this model says to this key?"""
        return any(rule.output and rule.action != "log" for rule in self._rules_for(names, principal))

    def check(self, names: Sequence[str], principal: Principal) -> AskedCheck:
        """For texts that are asked of a model of these names; then `settle`."""
        return AskedCheck(self._rules_for(names, principal))

    async def settle(self, check: AskedCheck, principal: Principal, model: str) -> str | None:
        """Guard models have their say, and all is noted. The refusal, if it is refused."""
        refused = check.refused
        for rule in () if refused is not None else check.judged_by:
            decision = await self._judged(rule, "\n".join(check.texts), None)
            if decision is not None:
                check.decisions.append(decision)
                if decision.action == "refuse":
                    refused = rule
                    break
        await self._note(check.decisions, principal, model)
        return None if refused is None else refused.refusal

    async def read(self, asked: "Asked", principal: Principal) -> tuple["Asked", str | None]:
        """What the engine may be asked, or the refusal that stands in for its answer."""
        check = self.check(names_of(asked), principal)
        if not check.rules:
            return asked, None
        tokenizer, context = asked.hosted.files.tokenizer, asked.hosted.context

        def masked() -> list[Request]:
            return [_asking(one, check.ids(one.prompt, tokenizer), context) for one in asked.requests]

        requests = await asyncio.to_thread(masked)
        refusal = await self.settle(check, principal, asked.hosted.name)
        return replace(asked, requests=requests), refusal

    async def said(self, answers: "Answering", principal: Principal) -> AsyncGenerator["Bunch"]:
        """The bunches of `answers` that may be sent."""
        asked = answers.asked
        rules = [rule for rule in self._rules_for(names_of(asked), principal) if rule.output]
        quiet, tokenizer = quiet_id(asked.hosted), asked.hosted.files.tokenizer
        owners = [request for request in asked.requests for _ in range(request.sampling.n)]
        checks = (
            [SaidCheck(rules, text_before(one.prompt, tokenizer), quiet_id=quiet) for one in owners] if rules else []
        )
        going = len(owners)
        async with aclosing(answers.drawn()) as bunches:
            async for index, pieces in bunches:
                if not rules:
                    yield index, pieces
                    continue
                check, ended = checks[index], pieces[-1].finish_reason is not None
                if check.ended:
                    continue
                long = ended and len(check.whole) > _LONG
                outcome = await asyncio.to_thread(check.push, pieces) if long else check.push(pieces)
                if ended and outcome.refused is None:
                    for rule in rules:
                        if rule.judge is None:
                            continue
                        prompt = tokenizer.decode(owners[index].prompt, skip_special=True)
                        decision = await self._judged(rule, prompt, check.whole)
                        if decision is not None:
                            outcome.decisions.append(decision)
                            if decision.action == "refuse":
                                outcome.refused, outcome.pieces = rule, []
                                break
                await self._note(outcome.decisions, principal, asked.hosted.name)
                check.ended = ended or outcome.refused is not None
                if outcome.pieces:
                    check.sent_any = check.sent_any or any(piece.text for piece in outcome.pieces)
                    yield index, outcome.pieces
                if outcome.refused is not None:
                    answers.ended_by_guard(pieces[-1].finish_reason)
                    front = "\n\n" if check.sent_any else ""
                    yield index, [refusal_piece(front + outcome.refused.refusal, quiet)]
                going -= check.ended
                if not going:
                    answers.cancel()
                    return

    def _rules_for(self, names: Sequence[str], principal: Principal) -> list[Rule]:
        return [rule for rule in self._rules if rule.is_for(names, principal.name)]

    async def _judged(self, rule: Rule, asked: str, said: str | None) -> Decision | None:
        where, text = ("input", asked) if said is None else ("output", said)
        if not text:
            return None
        try:
            if not await self._judges[rule.name].is_unsafe(asked, said):
                return None
            return Decision(rule=rule, where=where, action=rule.action, text=text)  # type: ignore[arg-type]
        except JudgeFailed as failed:
            log.warning("the guard model of rule %r gave %s", rule.name, failed)
            assert rule.judge is not None
            action = "allow" if rule.action == "log" else rule.judge.on_failure
            return Decision(rule=rule, where=where, action=action, text=text, because=str(failed))  # type: ignore[arg-type]

    async def _note(self, decisions: Sequence[Decision], principal: Principal, model: str) -> None:
        if not decisions:
            return
        facts = [
            {
                "request": request_id.get(),
                "key": principal.name,
                "model": model,
                "rule": one.rule.name,
                "action": one.action,
                "where": one.where,
                **({} if one.because is None else {"because": one.because}),
                "digest": self._log.digest(one.text),
            }
            for one in decisions
        ]
        try:
            await asyncio.gather(*map(self._log.append, facts))
        except OSError as error:
            log.error("decisions cannot be noted: %s", error.strerror)
            message = "what a rule decided cannot be noted, and so nothing is answered"
            raise ApiError(status=503, message=message, retry_after=5) from None
        if self.counter is not None:
            for one in decisions:
                self.counter.labels(model, one.rule.name, one.action).inc()

    def close(self) -> None:
        for judge in self._judges.values():
            judge.close()
        self._log.close()


def names_of(asked: "Asked") -> list[str]:
    """The model's name, and the one with its adapter."""
    return [*dict.fromkeys((asked.hosted.name, asked.served.name))]


def _asking(request: Request, prompt: list[int], context: int) -> Request:
    if prompt is request.prompt or prompt == request.prompt:
        return request
    room = max(1, context - len(prompt))
    sampling = replace(request.sampling, max_tokens=min(request.sampling.max_tokens, room))
    return replace(request, prompt=prompt, sampling=sampling)


def text_before(prompt: list[int], tokenizer: Tokenizer) -> str:
    """What an answer goes on from: the prompt's last run of text, or the end of the prefix whose gap it fills."""
    special, end = set(tokenizer.special.values()), len(prompt)
    marks = fill_marks(tokenizer)
    if marks is not None and prompt[-1:] == [marks.middle] and marks.suffix in prompt:
        end = len(prompt) - 1 - prompt[::-1].index(marks.suffix)
        if marks.prefix in prompt[end:]:
            end = len(prompt) - 1  # the suffix came first
    begin = end
    while begin > max(0, end - _BEFORE) and 0 <= prompt[begin - 1] < tokenizer.vocab_size:
        if prompt[begin - 1] in special:
            break
        begin -= 1
    return tokenizer.decode(prompt[begin:end])
