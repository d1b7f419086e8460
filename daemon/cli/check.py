"""`autoglm check`: would the daemon start? Everything it reads is read, nothing is started."""

import typer

from daemon.cli.options import Config


def check(config: Config = None) -> None:
    """Validate settings, engine and tools without starting anything."""
    from daemon.bundled import bundled_engine
    from daemon.settings import load
    from daemon.tools.loading import load_tools
    from engines.manifest import Manifest

    settings = load(config)
    folder = settings.engine.path or bundled_engine()
    manifest = Manifest.load(folder)
    registry = load_tools(settings.tools.modules)
    typer.echo(f"kafka    {settings.kafka.bootstrap_servers}, group {settings.kafka.group_id}, "
               f"{', '.join(settings.kafka.request_topics)} → {settings.kafka.reply_topic}")  # fmt: skip
    typer.echo(f"engine   {manifest.name}: {manifest.family} {manifest.precision}, {folder}")
    typer.echo(f"tools    {', '.join(tool.name for tool in registry) or 'none'}")
    typer.echo(f"metrics  http://{settings.metrics.host}:{settings.metrics.port}/metrics")
    typer.echo("all is well")
