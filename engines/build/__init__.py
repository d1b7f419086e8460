"""The factory: Hugging Face checkpoint in, engine folder out."""

from engines.build.build import Progress, build

__all__ = ["Progress", "build"]
