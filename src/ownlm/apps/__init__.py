"""Uses of a model: answers from one's own documents."""

from ownlm.apps.ask import DECLINED, Reply, Source, ask

__all__ = ["DECLINED", "Reply", "Source", "ask"]
