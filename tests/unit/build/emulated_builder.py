"""TensorRT's builder API without TensorRT: the part that the factory uses. A plan is the graph's name.

test_tensorrt.py holds its names against a real module.
"""

from enum import IntEnum
from types import SimpleNamespace

__name__ = "tensorrt"  # what the factory knows the flavour by
__version__ = "0.0"


class ILogger:
    class Severity(IntEnum):
        ERROR = 1


class IProgressMonitor:
    pass


class NetworkDefinitionCreationFlag:
    pass


class IBuilderConfig:
    progress_monitor = None

    def add_optimization_profile(self, profile):
        return 0

    def create_timing_cache(self, serialized):
        return ITimingCache(serialized)

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class ITimingCache:
    def __init__(self, known):
        self._known = known

    def serialize(self):
        return memoryview(self._known + b"measured;")


class OnnxParser:
    def __init__(self, network, logger):
        pass

    def parse_from_file(self, path):
        return True


class Builder:
    def __init__(self, logger):
        pass

    def create_network(self, flags):
        return SimpleNamespace(num_inputs=0)

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return SimpleNamespace()

    def build_serialized_network(self, network, config):
        return b"plan"
