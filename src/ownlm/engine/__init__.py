"""The engine: prompts in, tokens out."""

from ownlm.engine.generate import complete, stream
from ownlm.engine.request import Completion, Piece, Request
from ownlm.engine.sampling import Sampling
from ownlm.engine.score import log_likelihoods

__all__ = ["Completion", "Piece", "Request", "Sampling", "complete", "log_likelihoods", "stream"]
