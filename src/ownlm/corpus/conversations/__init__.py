"""Conversations to tune on, and the exam: made from Python itself, from the user's text, or the user's own."""

from ownlm.corpus.conversations.build import build_conversations
from ownlm.corpus.conversations.config import ConversationsConfig, ExamSizes, Mixture
from ownlm.corpus.conversations.told import told

__all__ = ["ConversationsConfig", "ExamSizes", "Mixture", "build_conversations", "told"]
