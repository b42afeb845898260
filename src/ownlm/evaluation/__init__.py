"""How good a model is: exams marked by rules, choices by likelihood, intervals, and a check of what it claims."""

from ownlm.evaluation.choose import Score, mark_choices, run_choose
from ownlm.evaluation.exam import Answer, ExamResult, Marked, declines, read_exam, run_exam
from ownlm.evaluation.expression_check import check_answer
from ownlm.evaluation.statistics import Share, mcnemar

__all__ = [
    "Answer",
    "ExamResult",
    "Marked",
    "Score",
    "Share",
    "check_answer",
    "declines",
    "mark_choices",
    "mcnemar",
    "read_exam",
    "run_choose",
    "run_exam",
]
