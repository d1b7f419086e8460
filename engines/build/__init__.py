"""The factory: Hugging Face checkpoint in, engine folder out."""

from engines.build.factory import Progress, build
from engines.build.inspection import inspect
from engines.build.memory import MemoryPlan, memory_plan
from engines.build.plan import PlanOptions

__all__ = ["MemoryPlan", "PlanOptions", "Progress", "build", "inspect", "memory_plan"]
