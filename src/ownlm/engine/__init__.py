"""The engine: prompts in, tokens out."""

from ownlm.engine.engine import Engine, EngineConfig
from ownlm.engine.generate import PieceStream, complete, complete_at_once, completions, embeddings, run, stream
from ownlm.engine.request import Completion, Piece, PromptToken, Request, Ticket
from ownlm.engine.sampling import Sampling
from ownlm.engine.score import log_likelihoods

__all__ = [
    "Completion",
    "Engine",
    "EngineConfig",
    "Piece",
    "PieceStream",
    "PromptToken",
    "Request",
    "Sampling",
    "Ticket",
    "complete",
    "complete_at_once",
    "completions",
    "embeddings",
    "log_likelihoods",
    "run",
    "stream",
]
