"""A real Apache Kafka broker on this machine, for the demo, for development and for the tests."""

from daemon.kafka.embedded.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
