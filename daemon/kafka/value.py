"""What can be read of a request's value before anybody has said that it is one."""

from pydantic_core import from_json


def members(value: bytes) -> dict[str, object]:
    """Of the JSON object, empty where there is none. Unlike json's, its strings can all be written again."""
    try:
        decoded = from_json(value)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def text(member: object) -> str | None:
    """The member, if it is a text and not empty."""
    return member if isinstance(member, str) and member else None
