"""`autoglm check`: would the daemon start? Everything it reads is read, nothing is started."""

import asyncio
from typing import TYPE_CHECKING

import typer

from daemon.cli.options import Config

if TYPE_CHECKING:
    from daemon.settings import ToolSettings
    from daemon.tools.registry import Registry


def check(config: Config = None) -> None:
    """Validate settings, engine and tools without starting anything."""
    from daemon.bundled import bundled_engine
    from daemon.errors import ConfigurationError
    from daemon.settings import load
    from engines.manifest import Manifest

    settings = load(config)
    folder = settings.engine.path or bundled_engine()
    manifest = Manifest.load(folder)
    registry, problems = asyncio.run(_tools(settings.tools))
    typer.echo(f"kafka    {settings.kafka.bootstrap_servers}, group {settings.kafka.group_id}, "
               f"{', '.join(settings.kafka.request_topics)} → {settings.kafka.reply_topic}")  # fmt: skip
    typer.echo(f"engine   {manifest.name}: {manifest.family} {manifest.precision}, {folder}")
    typer.echo(f"tools    {', '.join(tool.name for tool in registry) or 'none'}")
    typer.echo(f"metrics  http://{settings.metrics.host}:{settings.metrics.port}/metrics")
    if problems:
        raise ConfigurationError("\n".join(problems))
    typer.echo("all is well")


async def _tools(settings: "ToolSettings") -> "tuple[Registry, list[str]]":
    """The tools that there would be, and what is wrong with those that would be refused."""
    from daemon.tools.catalog import Catalog
    from daemon.tools.loading import load_tools

    catalog = Catalog(
        load_tools(settings.modules),
        tuple(settings.declarations),
        tuple(settings.plugins),
        settings.entry_points,
    )
    problems = await catalog.reload()
    registry = catalog.registry
    await catalog.close()
    return registry, problems
