"""Everything an operator may set: one TOML file, environment variables, systemd credentials.

Precedence, highest first: keyword arguments, environment (`AUTOGLM_KAFKA__GROUP_ID=…`), credentials
(`$CREDENTIALS_DIRECTORY/autoglm_kafka__sasl_password`), the TOML file, the defaults below.
"""

import os
import socket
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from daemon.errors import ConfigurationError
from daemon.explain import explain, not_json, not_text, unknown_variables
from daemon.kafka.settings import KafkaSettings
from daemon.memory.settings import MemorySettings
from daemon.origins import Origins
from daemon.routing.route import Route, problems
from daemon.tools.access import Grant

PREFIX = "AUTOGLM_"
SYSTEM_FILE = Path("/etc/open-autoglm/autoglm.toml")


def cache_folder() -> Path:
    """Where engines and broker files that can be made again are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open-autoglm"


def state_folder() -> Path:
    """Where data that must survive a restart is kept."""
    return Path(
        os.environ.get("STATE_DIRECTORY")
        or Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "open-autoglm"
    )


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(_Section):
    path: Path | None = Field(default=None, description="Engine folder; left out: the bundled model.")
    slots: int | None = Field(
        default=None,
        ge=1,
        description="Rows decoded together, and conversations kept warm; left out: as many as fit, "
        "on the CPU at most 64.",
    )
    capacity: int | None = Field(default=None, ge=16, description="Tokens per slot; left out: the model's.")
    memory: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the device's memory that each replica may take; left out: what is free or, "
        "with several on one device, a fair part.",
    )
    replicas: int = Field(default=1, ge=1, description="How many of it, on each device.")
    device: str | None = Field(
        default=None, description="Of a TensorRT engine: the GPU's index or UUID, several with commas."
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads; left out: one per core, or one for a small model."
    )


class AgentSettings(_Section):
    max_rounds: int = Field(default=6, ge=1, description="Tool rounds of one request at most.")
    max_tokens: int = Field(default=512, ge=1, description="Generated tokens when a request names no bound.")
    system: str | None = Field(default=None, description="System message of requests that bring none.")
    max_tools: int = Field(
        default=16, ge=1, description="Tools shown to the model; of more, those that fit the request best."
    )


class ToolSettings(_Section):
    modules: list[str] = Field(default=[], description="Import paths or .py files that register tools.")
    declarations: list[Path] = Field(
        default=[SYSTEM_FILE.parent / "tools.d"], description="TOML files, or folders of them."
    )
    plugins: list[Path] = Field(
        default=[SYSTEM_FILE.parent / "plugins.d"], description="Folders of .py files and packages."
    )
    entry_points: bool = Field(default=True, description="Load plug-ins of installed packages.")
    watch_seconds: float = Field(
        default=1.0, ge=0, description="How often files are looked at; 0: only on SIGHUP."
    )
    require: dict[str, list[str]] = Field(
        default={}, description="Pattern of tool names → scopes that it takes beside the tool's own."
    )
    grants: list[Grant] = Field(default=[], description="Who holds which scopes.")
    timeout_seconds: float = Field(default=10.0, gt=0, description="For tools that declare none.")
    result_bytes: int = Field(default=16_384, ge=256, description="Longer tool results are cut.")


class LimitSettings(_Section):
    request_bytes: int = Field(default=1_000_000, ge=1_000, description="Larger records are refused.")


class MetricsSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535, description="0 chooses a free port.")
    interval_seconds: float = Field(default=5.0, gt=0, description="Between snapshots on the metrics topic.")


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal."
    )


class Settings(BaseSettings):
    """The whole configuration. Unknown keys are errors."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    instance: str = Field(default_factory=lambda: f"{socket.gethostname()}/{os.getpid()}")
    kafka: KafkaSettings = KafkaSettings()
    engine: EngineSettings = Field(default=EngineSettings(), description="The only engine.")
    engines: dict[str, EngineSettings] = Field(
        default={}, description="Several engines by the names that requests and routes use."
    )
    routes: list[Route] = Field(default=[], description="Which of `engines` answers what; the first counts.")
    agent: AgentSettings = AgentSettings()
    tools: ToolSettings = ToolSettings()
    memory: MemorySettings = MemorySettings()
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        if directory := os.environ.get("CREDENTIALS_DIRECTORY"):
            sources.append(
                NestedSecretsSettingsSource(
                    file_secret_settings,
                    secrets_dir=directory,
                    secrets_prefix=PREFIX,
                    secrets_nested_delimiter="__",
                    secrets_dir_missing="ok",
                )
            )
        return (*sources, TomlConfigSettingsSource(settings_cls))


def load(file: Path | None = None) -> Settings:
    """Read the settings; `file` defaults to `$AUTOGLM_CONFIG`, else the system file if there is one.

    Raises ConfigurationError that lists every wrong key with its place and the remedy.
    """
    wrong = unknown_variables(PREFIX, Settings)
    chosen: Path | None = None
    try:
        chosen = _chosen(file)

        class FromFile(Settings):
            model_config = SettingsConfigDict(toml_file=chosen)

        settings = FromFile()
        wrong += [f"{chosen or 'settings'}: {problem}" for problem in _contradictions(settings)]
    except ValidationError as error:
        wrong += explain(error, Settings, Origins(PREFIX, _credentials(), chosen))
    except SettingsError as error:
        wrong.append(not_json(error, PREFIX, _credentials()))
    except tomllib.TOMLDecodeError as error:
        wrong.append(f"{chosen}: not valid TOML: {error}; mend that line.")
    except UnicodeDecodeError as error:
        wrong.append(not_text(error, [*([chosen] if chosen else []), *_credentials()]))
    except OSError as error:
        wrong.append(f"{error.filename}: cannot be read: {error.strerror}; let this user read it.")
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return settings


def _chosen(file: Path | None) -> Path | None:
    variable = os.environ.get("AUTOGLM_CONFIG")
    named = file or (Path(variable) if variable else None)
    if named and not named.is_file():
        raise ConfigurationError(
            f"{named}: no such file; create it, or leave `--config` out to use the defaults."
        )
    return named or (SYSTEM_FILE if SYSTEM_FILE.is_file() else None)


def _credentials() -> list[Path]:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return sorted(file for file in Path(directory).rglob("*") if file.is_file()) if directory else []


def _contradictions(settings: Settings) -> list[str]:
    if not settings.engines:
        return ["`routes` go to `[engines.NAME]`; declare these."] if settings.routes else []
    found = problems(settings.routes, settings.engines)
    if "engine" in settings.model_fields_set:
        found.append(
            "`engine` is the only engine, beside `engines` there is none; move it to `[engines.NAME]`."
        )
    return found
