"""What the daemon remembers of conversations, and where."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from daemon.memory.local import LocalStore
from daemon.memory.redis import RedisStore
from daemon.memory.store import Store


class MemorySettings(BaseModel):
    """The `memory` table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: Literal["never", "on-request", "always"] = Field(
        default="on-request",
        description="on-request: chats that say `memory: true`. always: those, too, that say nothing and "
        "bring no earlier turns themselves. never: such requests are refused.",
    )
    turns: int = Field(default=8, ge=1, description="Earlier requests put before a request at most.")
    tokens: int = Field(default=1024, ge=1, description="Tokens of these at most.")
    keep_seconds: float = Field(
        default=86_400.0, gt=0, description="After this long without a word a conversation is forgotten."
    )
    url: SecretStr | None = Field(
        default=None, description="redis://, rediss:// or unix://; left out: in the daemon's own memory."
    )
    conversations: int = Field(default=10_000, ge=1, description="Without `url`: kept at most.")
    bytes: int = Field(default=256 * 2**20, ge=1_000, description="Without `url`: of all of them at most.")

    def open(self) -> Store:
        """Raises ConfigurationError."""
        if self.url is None:
            return LocalStore(self.conversations, self.bytes, self.keep_seconds)
        return RedisStore(self.url.get_secret_value(), self.keep_seconds)
