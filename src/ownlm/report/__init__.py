"""What was made, told to a person: the run's HTML report and the model card."""

from ownlm.report.html import write_report
from ownlm.report.model_card import model_card

__all__ = ["model_card", "write_report"]
