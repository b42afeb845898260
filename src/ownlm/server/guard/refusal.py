"""A refusal as what every dialect reads: an answer's last piece, said in one."""

from ownlm.engine import Piece
from ownlm.server.hosted import Hosted

# As OpenAI's dialects call the end of an answer that a filter ended.
CONTENT_FILTER = "content_filter"


def refusal_piece(text: str, token_id: int) -> Piece:
    return Piece(token_id=token_id, text=text, logprob=0.0, finish_reason=CONTENT_FILTER)


def quiet_id(hosted: Hosted) -> int:
    """A token that says nothing: it stands for those that are hidden."""
    return hosted.files.end_ids[0] if hosted.files.end_ids else 0
