"""The kinds of tasks, one a file."""

from ownlm.evaluation.tasks.answers import Answers, Question
from ownlm.evaluation.tasks.choices import Choice, Choices
from ownlm.evaluation.tasks.group_swap import SWAPS, GroupSwap, Swap
from ownlm.evaluation.tasks.task import Outcome, Prompt, Task
from ownlm.evaluation.tasks.text import HeldOutText, Text
from ownlm.evaluation.tasks.translation import Translation

__all__ = [
    "SWAPS",
    "Answers",
    "Choice",
    "Choices",
    "GroupSwap",
    "HeldOutText",
    "Outcome",
    "Prompt",
    "Question",
    "Swap",
    "Task",
    "Text",
    "Translation",
]
