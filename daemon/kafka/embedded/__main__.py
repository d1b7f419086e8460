"""`python -m daemon.kafka.embedded`: fetch the broker's files and prepare its fast start."""

import sys

from daemon.kafka.embedded.broker import EmbeddedBroker
from daemon.kafka.embedded.files import VERSION, default_cache
from schemas.errors import AutoGLMError


def main() -> int:
    try:
        EmbeddedBroker.train(default_cache())
    except AutoGLMError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Apache Kafka {VERSION} is ready in {default_cache()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
