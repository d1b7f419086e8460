"""What the garbage collector need not look at while requests run."""

import gc


def settle() -> None:
    """Collect once, and leave everything that is there out of later collections.

    What the daemon holds for good (modules, models of records, engines) is over 100,000 objects; a full
    collection looks at each and keeps the interpreter's lock meanwhile, tens of milliseconds in which no
    engine takes a step.
    """
    gc.collect()
    gc.freeze()


def unsettle() -> None:
    """Take it all in again, because some of it is to go: what was left out would never be found."""
    gc.unfreeze()
