"""The partitions of topics that must be there."""

from aiokafka import AIOKafkaProducer

from daemon.kafka.errors import NoSuchTopic


async def all_partitions(producer: AIOKafkaProducer) -> dict[str, list[int]]:
    """The partitions of every topic there is. Raises KafkaError."""
    # All topics at once: a request that names a topic creates it where the broker allows that.
    cluster = await producer.client.fetch_all_metadata()
    return {topic: sorted(cluster.partitions_for_topic(topic)) for topic in cluster.topics()}


async def partitions_of(producer: AIOKafkaProducer, *topics: str) -> list[list[int]]:
    """The partitions of each topic. Raises NoSuchTopic, which names all that are missing, and KafkaError."""
    known = await all_partitions(producer)
    if missing := [topic for topic in topics if topic not in known]:
        names = ", ".join(missing)
        raise NoSuchTopic(
            f"There is no topic {names}; start the daemon, which creates what is missing, or create it."
        )
    return [known[topic] for topic in topics]
