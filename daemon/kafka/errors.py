"""What the Kafka room refuses or fails at. The docstring is the default message and names the remedy."""

from daemon.errors import ConfigurationError
from schemas.errors import AutoGLMError


class BrokerFailed(AutoGLMError):
    """The embedded broker did not come up; its log names the reason."""


class PortBusy(ConfigurationError):
    """The broker's port is taken; stop what listens there or choose another port."""


class TopicMissing(ConfigurationError):
    """A topic that the settings name does not exist; create it or set `kafka.create_topics`."""


class TimeoutRefused(ConfigurationError):
    """The brokers do not accept a timeout of `[kafka]`; set one within their limits."""


class NoSuchTopic(AutoGLMError):
    """There is no such topic; start the daemon, which creates what is missing, or create it."""


class JournalUnfit(ConfigurationError):
    """The journal topic must be compacted and have as many partitions as the request topics."""


class LaneFenced(AutoGLMError):
    """Another process owns this partition now; what was in flight here is its work from now on."""

    retryable = True


class RecordsRefused(LaneFenced):
    """The brokers do not take these records, now or later; it is not for another process to try."""


class HandlerFailed(AutoGLMError):
    """The daemon failed at this request and stops; its log has the details."""
