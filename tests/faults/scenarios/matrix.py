"""The fault matrix. A scenario about calls that a journal remembers goes into a module of its own here."""

from tests.faults.scenarios import broken, killed, moved, odd

SCENARIOS = (*killed.SCENARIOS, *moved.SCENARIOS, *broken.SCENARIOS, *odd.SCENARIOS)
