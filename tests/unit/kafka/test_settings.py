import pytest
from pydantic import ValidationError

from daemon.app import App
from daemon.errors import ConfigurationError
from daemon.kafka.settings import KafkaSettings
from daemon.settings import EngineSettings, Settings


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tls_ca_file": "/nope"}, r"^`kafka\.tls_ca_file` = /nope: cannot be used: No such file"),
        (
            {"tls_ca_file": __file__},
            rf"`kafka\.tls_ca_file` = {__file__}: cannot be used: .*; name PEM files",
        ),
        (
            {"tls_cert_file": "/cert", "tls_key_file": "/key"},
            r"^`kafka\.tls_cert_file` = /cert, `kafka\.tls_key_file` = /key: cannot be used",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(files, said):
    with pytest.raises(ConfigurationError, match=said):
        KafkaSettings(security_protocol="SSL", **files).connection()


async def test_they_are_told_before_engines_are_looked_for(tmp_path):
    kafka = KafkaSettings(security_protocol="SSL", tls_ca_file="/nope")
    settings = Settings(kafka=kafka, engine=EngineSettings(path=tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="tls_ca_file"):
        await App(settings, lambda: settings).run()


@pytest.mark.parametrize("factor", [0, -2, 2**15])
def test_a_factor_that_no_broker_takes_is_refused(factor):
    with pytest.raises(ValidationError, match="write 1 or more, or -1 for the brokers' default"):
        KafkaSettings(replication_factor=factor)


@pytest.mark.parametrize(
    "key",
    [
        "session_timeout_seconds",
        "transaction_timeout_seconds",
        "rebalance_grace_seconds",
        "cancel_keep_seconds",
        "duplicate_window_seconds",
    ],
)
def test_times_that_cannot_be_told_to_the_brokers_are_refused(key):
    with pytest.raises(ValidationError, match=f"{key}\n.*less than or equal to"):
        KafkaSettings(**{key: float("inf")})


@pytest.mark.parametrize("key", ["request_topics", "reply_topic", "control_topic"])
@pytest.mark.parametrize("topic", ["", "a b", "é", ".", "a/b", "a" * 250])
def test_what_is_no_topic_name_is_refused(key, topic):
    with pytest.raises(ValidationError, match=f"{key}: .* is no topic name"):
        KafkaSettings(**{key: (topic,) if key == "request_topics" else topic})
