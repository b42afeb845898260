"""The quickstart: from text to a conversation. It calls the stages, and holds no stage of its own."""

from ownlm.journey.narrator import Narrator
from ownlm.journey.recipe import QuickstartOptions, QuickstartRecipe, default_recipe
from ownlm.journey.stages import quickstart
from ownlm.journey.tune import TuneRecipe, tune

__all__ = ["Narrator", "QuickstartOptions", "QuickstartRecipe", "TuneRecipe", "default_recipe", "quickstart", "tune"]
