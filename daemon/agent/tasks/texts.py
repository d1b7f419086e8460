"""How many texts of one request there may be, so that a reply can hold what is said of them."""

from daemon.errors import InvalidRequest

_MOST = 5_000_000  # characters of JSON; topics take replies of 1 MB unless their operator allows more


def check(count: int, each: int) -> None:
    """Raises InvalidRequest when what is said of `count` texts, `each` characters of JSON for one, is more
    than any reply holds: it would all be computed for nothing.
    """
    if count * each > _MOST:
        most = max(1, _MOST // each)
        raise InvalidRequest(f"texts: no reply holds what is said of {count}; send at most {most} at a time.")
