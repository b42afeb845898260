"""What was made, told to a person: the run's HTML report and the model card."""

from ownlm.report.html import REPORT_NAME, write_report
from ownlm.report.model_card import model_card

__all__ = ["REPORT_NAME", "model_card", "write_report"]
