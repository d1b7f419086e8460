"""Who gets which part of a device's memory when several engines share it."""

from collections.abc import Sequence
from dataclasses import dataclass

from engines.errors import EngineTooLarge

_CPU_LEFT = 0.5  # of the machine's memory, which others need as well, for engines that name no share


@dataclass(frozen=True, slots=True)
class Place:
    """Where one replica of `engine` is to run. device: "cpu", or the GPU's index or UUID; memory: the share
    of the device's memory that it may take, None: a fair part of what is left."""

    engine: str
    device: str
    memory: float | None = None


def shares(places: Sequence[Place]) -> list[float | None]:
    """The share of each place; None for one that has its device to itself and names none.

    Raises EngineTooLarge when a device is given away more than once.
    """
    found: list[float | None] = []
    for place in places:
        others = [one for one in places if one.device == place.device]
        given = sum(one.memory or 0.0 for one in others)
        open_ = [one for one in others if one.memory is None]
        if given > 1 + 1e-9 or (open_ and given > 1 - 1e-9):
            names = ", ".join(dict.fromkeys(one.engine for one in others))
            raise EngineTooLarge(
                f"the engines on {place.device} ({names}) share out {given:.0%} of its memory"
                f"{' and leave nothing to the rest' if open_ else ''}; lower `memory` of some"
            )
        if place.memory is not None or len(others) == 1:
            found.append(place.memory)
        else:
            left = (1 - given) * (_CPU_LEFT if place.device == "cpu" else 1)
            found.append(left / len(open_))
    return found
