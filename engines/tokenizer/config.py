"""What is read of a checkpoint's tokenizer_config.json; most of it is for other programs."""

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.tokenizer.errors import TokenizerMissing

FILE_NAME = "tokenizer_config.json"


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Token(_Part):
    content: str


class _NamedTemplate(_Part):
    name: str
    template: str


class TokenizerConfig(_Part):
    """`tool_format` and `write_defaults` are ours, see formats.choose; the others are Hugging Face's."""

    tool_format: str | None = None
    write_defaults: bool = False
    chat_template: str | list[_NamedTemplate] | None = None
    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    unk_token: str | _Token | None = None

    @classmethod
    def parse(cls, config: object) -> "TokenizerConfig":
        """Raises TokenizerMissing naming the key."""
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = f"`{problem['loc'][0]}`: " if problem["loc"] else ""
            raise TokenizerMissing(
                f"{FILE_NAME}: {place}{problem['msg'].lower()}; compare it with the original checkpoint's."
            ) from None

    @property
    def template(self) -> str | None:
        """Older checkpoints keep the chat template here, one or several by name."""
        if isinstance(self.chat_template, list):
            return {entry.name: entry.template for entry in self.chat_template}.get("default")
        return self.chat_template

    @property
    def named_tokens(self) -> dict[str, str]:
        """Literals of the special tokens that templates may name."""
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        tokens = {name: getattr(self, name) for name in names}
        return {
            name: token.content if isinstance(token, _Token) else token
            for name, token in tokens.items()
            if token is not None
        }
