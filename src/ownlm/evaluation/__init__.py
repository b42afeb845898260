"""How good a model is: tasks with intervals and comparisons, the quickstart's exam, and a check of what it claims."""

from ownlm.evaluation.choose import Score, mark_choices, run_choose
from ownlm.evaluation.exam import Answer, ExamResult, Marked, declines, read_exam, run_exam
from ownlm.evaluation.expression_check import check_answer
from ownlm.evaluation.metric import Comparison, Estimate, Metric
from ownlm.evaluation.run import Evaluation, TaskResult, evaluate
from ownlm.evaluation.statistics import Share, mcnemar

__all__ = [
    "Answer",
    "Comparison",
    "Estimate",
    "Evaluation",
    "ExamResult",
    "Marked",
    "Metric",
    "Score",
    "Share",
    "TaskResult",
    "check_answer",
    "declines",
    "evaluate",
    "mark_choices",
    "mcnemar",
    "read_exam",
    "run_choose",
    "run_exam",
]
