"""How the daemon reaches Kafka and what it promises there."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from daemon.errors import ConfigurationError

Delivery = Literal["exactly-once", "at-least-once"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
# Milliseconds in 32 bits hold more; a time after 1970 as far back as the second can be told to brokers.
_LONGEST_TIMEOUT, _LONGEST_MEMORY = 1e6, 1e9
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/,@\[\]]+):(?P<port>\d{1,5})")
TOPIC_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
# Each holds one kind of record.
_OWN_TOPICS = (
    "reply_topic",
    "dead_letter_topic",
    "metrics_topic",
    "control_topic",
    "journal_topic",
    "audit_topic",
)


class KafkaSettings(BaseModel):
    """The `kafka` table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="`host:port`, several with commas.")
    group_id: str = Field(default="autoglm", min_length=1, description="Daemons of one group share the work.")
    client_id: str = Field(default="autoglm", min_length=1)
    request_topics: tuple[str, ...] = Field(default=("autoglm.requests",), min_length=1)
    reply_topic: str = Field(default="autoglm.replies", description="For requests without `reply-topic`.")
    dead_letter_topic: str = "autoglm.dead-letters"
    metrics_topic: str = "autoglm.metrics"
    control_topic: str = "autoglm.control"
    journal_topic: str = Field(
        default="autoglm.tool-journal",
        description="What tools did, for whoever goes on after a crash; compacted.",
    )
    audit_topic: str = Field(default="autoglm.audit", description="One record per executed tool call.")
    create_topics: bool = Field(default=True, description="Create missing topics at the start.")
    partitions: int = Field(default=4, ge=1, description="Of topics that are created.")
    replication_factor: int = Field(default=-1, description="Of topics that are created; -1: broker default.")

    delivery: Delivery = "exactly-once"
    unordered: bool = Field(default=False, description="Give up the order of records with the same key.")
    tenant_weights: dict[str, Annotated[float, Field(gt=0.0)]] = Field(
        default={}, description="Turns of a tenant, relative to 1, when more requests wait than fit."
    )
    max_in_flight: int = Field(default=64, ge=1, description="Requests worked on at once, all partitions.")
    max_in_flight_per_partition: int = Field(default=64, ge=1)
    commit_interval_seconds: float = Field(
        default=0.02,
        ge=0.0,
        le=5.0,
        description="How long finished replies, and notes that a tool waits for, wait for company at least.",
    )
    commit_patience: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="How long they wait at most, as a share of the time that the request has taken already.",
    )
    commit_max_interval_seconds: float = Field(
        default=0.25, ge=0.0, le=5.0, description="They never wait longer, however long the request took."
    )
    commit_max_records: int = Field(default=500, ge=1, description="Requests per commit at most.")
    transaction_timeout_seconds: float = Field(
        default=15.0,
        ge=1.0,
        le=_LONGEST_TIMEOUT,
        description="A transaction left open by a dead daemon blocks readers this long.",
    )
    session_timeout_seconds: float = Field(
        default=10.0,
        gt=0.0,
        le=_LONGEST_TIMEOUT,
        description="After this silence the group gives the partitions to others.",
    )
    rebalance_grace_seconds: float = Field(
        default=5.0,
        ge=0.0,
        le=_LONGEST_TIMEOUT,
        description="How long requests in work may hold up a rebalance.",
    )
    drain_grace_seconds: float = Field(
        default=30.0, ge=0.0, description="How long requests in work may take when the daemon stops."
    )
    max_retries: int = Field(
        default=5, ge=0, description="Further tries of a request that failed for a reason that may pass."
    )
    retry_backoff_seconds: float = Field(
        default=0.25, gt=0.0, description="Before the first further try; doubles with each, with jitter."
    )
    retry_backoff_max_seconds: float = Field(default=10.0, gt=0.0)
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="Crashes in a row after which a partition's requests are tried one by one, alone, "
        "to find the one that ends the process.",
    )
    cancel_keep_seconds: float = Field(
        default=60.0,
        ge=0.0,
        le=_LONGEST_MEMORY,
        description="How long a cancel waits for its request, also while no daemon runs.",
    )
    duplicate_window_seconds: float = Field(
        default=60.0,
        ge=0.0,
        le=_LONGEST_MEMORY,
        description="A request that comes again this soon gets its first reply; 0: never.",
    )
    duplicate_window_requests: int = Field(
        default=1_000, ge=1, description="How many replies are remembered for that, per partition, at most."
    )
    max_record_bytes: int = Field(
        default=1_000_000, ge=1_000, description="Largest record the brokers accept (`message.max.bytes`)."
    )

    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    tls_ca_file: str | None = Field(default=None, description="PEM; the system's authorities when left out.")
    tls_cert_file: str | None = Field(default=None, description="PEM of the client's certificate.")
    tls_key_file: str | None = None

    @field_validator("replication_factor")
    @classmethod
    def _factor(cls, value: int) -> int:
        if value != -1 and not 1 <= value < 2**15:
            raise ValueError(
                f"{value} is no number of replicas; write 1 or more, or -1 for the brokers' default"
            )
        return value

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            found = _ADDRESS.fullmatch(address.strip())
            if not found or not 0 < int(found["port"]) < 2**16:
                raise ValueError(
                    f"{address.strip()!r} is not `host:port`; write `kafka.example:9092`, several with "
                    "commas, IPv6 addresses in brackets: `[::1]:9092`"
                )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security_protocol.startswith("SASL") and (
            self.sasl_username is None or self.sasl_password is None
        ):
            raise ValueError(f"{self.security_protocol} needs sasl_username and sasl_password")
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        """The names that Kafka itself accepts."""
        for key in ("request_topics", *_OWN_TOPICS):
            named: str | tuple[str, ...] = getattr(self, key)
            for topic in (named,) if isinstance(named, str) else named:
                if not TOPIC_NAME.fullmatch(topic):
                    raise ValueError(
                        f"{key}: {topic!r} is no topic name; write 1 to 249 of A-Z a-z 0-9 . _ -, "
                        "and not . or .. alone"
                    )
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        """A reply on a request topic would be taken for a request, and be answered without end."""
        named = dict.fromkeys(self.request_topics, "request_topics")
        for key in _OWN_TOPICS:
            topic: str = getattr(self, key)
            if topic in named:
                raise ValueError(
                    f"{named[topic]} and {key} both name {topic!r}; give {key} a topic of its own"
                )
            named[topic] = key
        return self

    def connection(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes.

        Raises ConfigurationError for PEM files that cannot be used.
        """
        password = self.sasl_password.get_secret_value() if self.sasl_password else None
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "ssl_context": self._tls() if self.security_protocol.endswith("SSL") else None,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": password,
        }

    def _tls(self) -> ssl.SSLContext:
        with _usable(tls_ca_file=self.tls_ca_file):
            context = ssl.create_default_context(cafile=self.tls_ca_file)
        if self.tls_cert_file is not None:
            with _usable(tls_cert_file=self.tls_cert_file, tls_key_file=self.tls_key_file):
                context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        return context


@contextlib.contextmanager
def _usable(**files: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        named = ", ".join(f"`kafka.{key}` = {file}" for key, file in files.items() if file is not None)
        raise ConfigurationError(
            f"{named}: cannot be used: {error.strerror or error}; name PEM files that this user may read."
        ) from error
