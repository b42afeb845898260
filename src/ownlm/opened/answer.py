"""What a model wrote, with its figures."""

from dataclasses import dataclass

from ownlm.engine import Completion, PromptToken, Request
from ownlm.engine.request import Top


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A text and, for each of its tokens: the id, the logarithm of its chance, the likeliest others, and its place.

    Logarithms are natural ones. `text_offsets` are the places in `text` at which the tokens begin; what ended the text
    without being part of it begins at its end. `top_logprobs` is filled as `logprobs` asks, `prompt_logprobs` (of all
    but the prompt's first token) as `prompt_logprobs` asks. With `echo` the prompt stands in front of `text`.
    finish_reason: "stop" or "length". `usage` counts tokens: those of the prompt, how many of them were found computed,
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


def answer_to(request: Request, prompt: str, done: Completion, *, speculated: bool) -> Answer:
    """`prompt` is the request's as text."""
    front = prompt if request.sampling.echo else ""
    usage = {
        "prompt_tokens": len(request.prompt),
        "cached_tokens": done.cached_tokens,
        "completion_tokens": len(done.token_ids),
    }
    if speculated:
        usage |= {"drafted_tokens": done.drafted, "accepted_tokens": done.accepted}
    return Answer(
        text=front + done.text,
        token_ids=done.token_ids,
        finish_reason=done.finish_reason,
        logprobs=done.log_probabilities,
        top_logprobs=done.top,
        text_offsets=[len(front) + offset for offset in done.offsets],
        prompt_logprobs=done.prompt_tokens,
        usage=usage,
    )
