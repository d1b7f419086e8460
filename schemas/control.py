"""What an operator or a caller tells the daemons on the control topic."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.strict import Strict


class Cancel(Strict):
    """Call a request off. A record's key, if it has one, says of which conversation."""

    type: Literal["cancel"] = "cancel"
    id: str | None = Field(default=None, min_length=1, description="The request's id, as in its reply.")
    correlation_id: str | None = Field(
        default=None, min_length=1, description="The request's `correlation-id` header."
    )

    @model_validator(mode="after")
    def _names_something(self) -> "Cancel":
        if self.id is None and self.correlation_id is None:
            raise ValueError("give `id` or `correlation_id`; with both, both must fit")
        return self
