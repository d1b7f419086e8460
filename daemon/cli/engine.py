"""`autoglm engine`: change the engines of daemons that run, by the control topic."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.options import Config, above_zero, not_empty, sendable

if TYPE_CHECKING:
    from schemas.control import EngineOrder

app = typer.Typer(help="Change the engines of running daemons; their logs and metrics tell how it went.")

Name = Annotated[str, typer.Argument(help="The engine, as requests and routes name it.", callback=not_empty)]
Instance = Annotated[
    str | None, typer.Option(help="Only this daemon, as in its metrics; left out: all.", callback=sendable)
]


@app.command()
def load(
    name: Name,
    path: Annotated[
        Path, typer.Argument(help="The engine folder, on the daemons' hosts.", callback=sendable)
    ],
    slots: Annotated[int | None, typer.Option(min=1, help="As in the settings.")] = None,
    capacity: Annotated[int | None, typer.Option(min=16, help="As in the settings.")] = None,
    memory: Annotated[
        float | None, typer.Option(max=1, help="As in the settings.", callback=above_zero)
    ] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="As in the settings.")] = None,
    device: Annotated[str | None, typer.Option(help="As in the settings.", callback=sendable)] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="As in the settings.")] = None,
    instance: Instance = None,
    config: Config = None,
) -> None:
    """Load and warm an engine beside the others; then it takes the place of what NAME was. Until a reload."""
    from schemas.control import LoadEngine

    order = LoadEngine(
        type="load_engine",
        instance=instance,
        name=name,
        path=str(path),
        slots=slots,
        capacity=capacity,
        memory=memory,
        replicas=replicas,
        device=device,
        threads=threads,
    )
    _tell(order, config)


@app.command()
def retire(name: Name, instance: Instance = None, config: Config = None) -> None:
    """Let an engine finish what it has, then give its memory back. Until a reload."""
    from schemas.control import RetireEngine

    _tell(RetireEngine(type="retire_engine", instance=instance, name=name), config)


@app.command()
def reload(instance: Instance = None, config: Config = None) -> None:
    """Have the settings file's engines and routes, declared tools and plug-ins read anew, as SIGHUP does."""
    from schemas.control import Reload

    _tell(Reload(type="reload", instance=instance), config)


def _tell(order: "EngineOrder", config: Path | None) -> None:
    from daemon.cli.producing import send_control
    from daemon.settings import load as load_settings

    settings = load_settings(config).kafka
    asyncio.run(send_control(settings, order))
    typer.echo(f"asked on {settings.control_topic}; the daemons' logs tell how it went")
