"""The factory: Hugging Face checkpoint in, engine folder out."""

from engines.build.factory import Progress, build
from engines.build.plan import PlanOptions

__all__ = ["PlanOptions", "Progress", "build"]
