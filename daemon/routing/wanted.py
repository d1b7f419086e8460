"""Which engines the settings ask for."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from daemon.bundled import bundled_engine
from daemon.errors import ConfigurationError
from daemon.routing.route import Route
from daemon.settings import EngineSettings, Settings
from engines.manifest import FILE_NAME, Manifest
from engines.serve.pool.shares import Place
from engines.tokenizer import Tokenizer


@dataclass(frozen=True)
class Wanted:
    """One name, with what is to answer for it; equal means that there is nothing to load anew.

    version: of the folder's content, which may be built again in place.
    """

    name: str
    folder: Path
    settings: EngineSettings
    version: str
    on_gpu: bool

    @classmethod
    def of(cls, name: str | None, settings: EngineSettings) -> "Wanted":
        """Without `name` the manifest's. Raises EngineFolderError, ConfigurationError, BuildError."""
        folder = settings.path or bundled_engine()
        manifest = Manifest.load(folder, verify=False)
        if manifest.tokenizer_sha256 is None:
            raise ConfigurationError(f"{folder} has no tokenizer; build from a checkpoint that has one.")
        if not Tokenizer.has_template(folder):
            raise ConfigurationError(
                f"{folder} has no chat template; put chat_template.jinja into the checkpoint and build again."
            )
        version = sha256((folder / FILE_NAME).read_bytes()).hexdigest()
        return cls(name or manifest.name, folder, settings, version, manifest.runtime != "onnxruntime")

    @property
    def places(self) -> list[Place]:
        """Of its replicas."""
        devices = (self.settings.device or "0").split(",") if self.on_gpu else ["cpu"]
        memory = self.settings.memory
        return [
            Place(self.name, device.strip(), memory)
            for device in devices
            for _ in range(self.settings.replicas)
        ]


def wanted_by(settings: Settings) -> tuple[dict[str, Wanted], tuple[Route, ...]]:
    """Engines by name, and routes over them. Reads files, and builds the bundled model when it is wanted.

    Raises EngineFolderError, ConfigurationError, BuildError.
    """
    wanted = [Wanted.of(name, one) for name, one in settings.engines.items()] or [
        Wanted.of(None, settings.engine)
    ]
    routes = tuple(settings.routes)
    if len(wanted) == 1 and not any(route.takes_everything for route in routes):
        routes = (*routes, Route(engine=wanted[0].name))
    return {one.name: one for one in wanted}, routes
