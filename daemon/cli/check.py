"""`autoglm check`: would the daemon start? Everything it reads is read; no engine is loaded.

MCP servers alone are started, as declared, and stopped again: only they know which tools they have.
"""

import asyncio
from typing import TYPE_CHECKING

import typer

from daemon.cli.options import Config

if TYPE_CHECKING:
    from daemon.settings import ToolSettings
    from daemon.tools.registry import Registry


def check(config: Config = None) -> None:
    """Validate settings, engines, routes and tools without loading a model.

    Declared MCP servers are started to list their tools, and stopped again.
    """
    from daemon.errors import ConfigurationError
    from daemon.routing.wanted import wanted_by
    from daemon.settings import load
    from engines.manifest import Manifest
    from engines.serve.language import Language
    from engines.serve.pool.shares import shares
    from engines.serve.runtime.choose import Wanted
    from engines.serve.runtime.choose import check as check_runtime

    settings = load(config)
    settings.kafka.connection()
    wanted, routes = wanted_by(settings)
    shares([place for one in wanted.values() for place in one.places])
    settings.memory.open()
    registry, problems = asyncio.run(_tools(settings.tools))
    typer.echo(f"kafka    {settings.kafka.bootstrap_servers}, group {settings.kafka.group_id}, "
               f"{', '.join(settings.kafka.request_topics)} → {settings.kafka.reply_topic}")  # fmt: skip
    for one in wanted.values():
        manifest = Manifest.load(one.folder)
        Language.of(one.folder, manifest)
        check_runtime(manifest, Wanted(capacity=one.settings.capacity))
        replicas = f" × {len(one.places)}" if len(one.places) > 1 else ""
        typer.echo(f"engine   {one.name}{replicas}: {manifest.family} {manifest.precision}, {one.folder}")
    for route in routes:
        conditions = route.model_dump(exclude={"engine", "fallback"}, exclude_none=True)
        told = "; ".join(f"{key} {', '.join(patterns)}" for key, patterns in conditions.items())
        typer.echo(f"route    {told or 'everything else'} → {', else '.join(route.engines)}")
    typer.echo(f"tools    {', '.join(tool.name for tool in registry) or 'none'}")
    place = "in Redis" if settings.memory.url else "in the process"
    typer.echo(f"memory   {settings.memory.use}, {place}")
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
