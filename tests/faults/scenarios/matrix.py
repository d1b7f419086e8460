"""The fault matrix."""

from tests.faults.scenarios import broken, journaled, killed, moved, odd

# Those that must play alone last: all others play side by side.
SCENARIOS = (
    *killed.SCENARIOS,
    *journaled.SCENARIOS,
    *moved.SCENARIOS,
    *odd.SCENARIOS,
    *broken.SCENARIOS,
)
