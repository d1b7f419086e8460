"""What goes where in the GPU's memory, decided before anything of it is taken."""

from dataclasses import dataclass

from engines.errors import EngineTooLarge
from engines.serve.memory import slots_for

_MARGIN = 256 << 20  # bytes left to the driver and to fragmentation
_GRAPH = 4 << 20  # bytes of one captured step, allowed for


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes. weights: of the plan; workspace: of all contexts; per_slot: KV of one slot; fixed: of all other
    buffers at most; graphs: how many are captured."""

    weights: int
    workspace: int
    per_slot: int
    fixed: int
    graphs: int


@dataclass(frozen=True, slots=True)
class GpuMemoryPlan:
    """Bytes of one GPU; they add up to `total`."""

    total: int
    others: int
    weights: int
    workspace: int
    buffers: int
    graphs: int
    per_slot: int
    slots: int
    left: int

    @classmethod
    def fit(
        cls,
        needs: Needs,
        *,
        total: int,
        free: int,
        most_slots: int,
        rows: int | None = None,
        share: float | None = None,
    ) -> "GpuMemoryPlan":
        """free: bytes nobody has before the weights are loaded. rows: that are to run at once, with slots
        beyond their own while there is room; None for all slots that fit. share: of `total` that this engine
        may take; what it does not take of `free` stays with the others.

        Raises EngineTooLarge with the number that would fit.
        """
        graphs = needs.graphs * _GRAPH
        free = free if share is None else min(free, int(share * total))
        room = free - needs.weights - needs.workspace - needs.fixed - graphs - _MARGIN
        fitting = min(most_slots, max(0, room // needs.per_slot))
        if fitting < 1:
            missing = needs.per_slot - room
            raise EngineTooLarge(
                f"the engine needs {_gib(missing)} more GPU memory for a single slot: {_gib(free)} of "
                f"{_gib(total)} are there for it, "
                f"weights take {_gib(needs.weights)}; free some or build it smaller"
            )
        if rows is not None and rows > fitting:
            reason = "the plan was built for" if fitting == most_slots else "fit the GPU's memory"
            raise EngineTooLarge(f"{rows} rows asked for, {fitting} {reason}; ask for {fitting} or fewer")
        chosen = fitting if rows is None else min(fitting, slots_for(rows))
        return cls(
            total=total,
            others=total - free,
            weights=needs.weights,
            workspace=needs.workspace,
            buffers=needs.fixed,
            graphs=graphs,
            per_slot=needs.per_slot,
            slots=chosen,
            left=room - chosen * needs.per_slot + _MARGIN,
        )

    def __str__(self) -> str:
        return (
            f"GPU memory {_gib(self.total)}: others {_gib(self.others)}, weights {_gib(self.weights)}, "
            f"workspace {_gib(self.workspace)}, buffers {_gib(self.buffers)}, graphs {_gib(self.graphs)}, "
            f"{self.slots} slots of {_gib(self.per_slot)}, left {_gib(self.left)}"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
