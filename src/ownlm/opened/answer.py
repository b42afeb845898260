"""What a model wrote, with its figures."""

from dataclasses import dataclass

from ownlm.engine import Completion, PromptToken, Ticket, completions
from ownlm.engine.request import Top


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A text and, for each of its tokens: the id, the logarithm of its chance, the likeliest others, and its place.

    Logarithms are natural ones. `text_offsets` are the places in `text` at which the tokens begin; what ended the text
    without being part of it begins at its end. `top_logprobs` is filled as `logprobs` asks, `prompt_logprobs` (of all
    but the prompt's first token) as `prompt_logprobs` asks. With `echo` the prompt stands in front of `text`.
    finish_reason: "stop" or "length"; `complete` is False where the text was cut, by either, before it was all that its
    grammar asks for. `usage` counts tokens: those of the prompt, how many of them were found computed,
    those of the answer; with speculation those guessed and those guessed right, of all answers to the prompt together.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[float]
    top_logprobs: list[Top]
    text_offsets: list[int]
    prompt_logprobs: list[PromptToken] | None
    usage: dict[str, int]
    complete: bool = True


def answers_of(ticket: Ticket, prompt: str, *, speculated: bool) -> list[Answer]:
    """All answers to a request that has ended; `prompt` is its prompt as text."""
    request = ticket.request
    usage = {"prompt_tokens": len(request.prompt), "cached_tokens": ticket.cached_tokens}
    if speculated:
        usage |= {"drafted_tokens": ticket.drafted, "accepted_tokens": ticket.accepted}
    front = prompt if request.sampling.echo else ""
    return [answer_of(done, usage, front=front, prompt=ticket.prompt_tokens) for done in completions(ticket)]


def answer_of(
    done: Completion, usage: dict[str, int], *, front: str = "", prompt: list[PromptToken] | None = None
) -> Answer:
    """`front` stands before the text; `prompt` is how likely the prompt was."""
    return Answer(
        text=front + done.text,
        token_ids=done.token_ids,
        finish_reason=done.finish_reason,
        complete=done.complete,
        logprobs=done.log_probabilities,
        top_logprobs=done.top,
        text_offsets=[len(front) + offset for offset in done.offsets],
        prompt_logprobs=prompt,
        usage={**usage, "completion_tokens": len(done.token_ids)},
    )
