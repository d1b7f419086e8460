"""One real broker for all tests that need Kafka."""

import uuid
from collections.abc import Iterator

import pytest

from daemon.errors import PrerequisiteMissing
from daemon.kafka.embedded import EmbeddedBroker

# Everybody may do everything, until a test forbids something.
_AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A running broker, shared by the session; tests keep apart by topic and group names."""
    try:
        with EmbeddedBroker(tmp_path_factory.mktemp("kafka"), properties=_AUTHORIZER) as running:
            yield running
    except PrerequisiteMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def name() -> str:
    """A prefix for topics and groups that no other test uses."""
    return f"t{uuid.uuid4().hex[:8]}"
