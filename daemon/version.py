"""Which version of Open-AutoGLM this is."""

from importlib.metadata import version

VERSION = version("open-autoglm")
