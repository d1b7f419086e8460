"""The partitions of topics that must be there."""

from aiokafka import AIOKafkaProducer

from daemon.kafka.errors import NoSuchTopic


async def partitions_of(producer: AIOKafkaProducer, *topics: str) -> list[list[int]]:
    """The partitions of each topic. Raises NoSuchTopic, which names all that are missing, and KafkaError."""
    # All topics at once: a request that names a topic creates it where the broker allows that.
    cluster = await producer.client.fetch_all_metadata()
    known = {topic: cluster.partitions_for_topic(topic) for topic in topics}
    if missing := [topic for topic, partitions in known.items() if partitions is None]:
        names = ", ".join(missing)
        raise NoSuchTopic(
            f"There is no topic {names}; start the daemon, which creates what is missing, or create it."
        )
    return [sorted(known[topic]) for topic in topics]
