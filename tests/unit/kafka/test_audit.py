from datetime import UTC, datetime

import pytest
from aiokafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from structlog.testing import capture_logs

from daemon.kafka.brokers import patience
from daemon.kafka.publishing.audit import AuditTopic
from schemas.event import ToolAudit

EVENT = ToolAudit(
    instance="host/1",
    time=datetime.now(UTC),
    request_id="r",
    record="t/0/1",
    topic="t",
    call_id="k",
    tool="pay",
    arguments={},
    outcome="ok",
    attempts=1,
    duration_ms=1.0,
)


async def test_a_failure_that_may_pass_is_logged_and_tried_again(monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.0)
    failures, written = [KafkaTimeoutError("away"), KafkaTimeoutError()], []

    async def publish(record):
        if failures:
            raise failures.pop(0)
        written.append(record)

    with capture_logs() as lines:
        await AuditTopic("audit", publish).write(EVENT)
    assert [(record.topic, record.key) for record in written] == [("audit", b"r")]
    assert [line["event"] for line in lines] == ["audit_not_published"] * 2


async def test_what_cannot_pass_is_raised():
    async def publish(record):
        raise TopicAuthorizationFailedError("audit")

    with pytest.raises(TopicAuthorizationFailedError):
        await AuditTopic("audit", publish).write(EVENT)
