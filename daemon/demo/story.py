"""`make demo`: a broker, the daemon and a customer-service desk, told as a story on the terminal.

Everything is the product itself: a real broker, `autoglm run` as its own process, records on topics.
"""

import asyncio
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from daemon.bundled import bundled_engine
from daemon.demo import page
from daemon.demo.process import DaemonProcess
from daemon.kafka.client import Client
from daemon.kafka.embedded import EmbeddedBroker
from daemon.kafka.settings import KafkaSettings
from daemon.settings import PREFIX, load
from schemas.reply import Delta, Reply

CLUSTER = f"{PREFIX}KAFKA__BOOTSTRAP_SERVERS"
REPLY_SECONDS = 60.0
# Who asks what. The first are sent one by one, to be read; the rest at once, to be batched.
ONE_BY_ONE = 4
SCENES = (
    ("Mei", "你好"),
    ("Tom", "Where is order A1001?"),
    ("Mei", "请帮我查一下用户 U1024 的资料"),
    ("Ana", "Please refund 25.5 dollars of order A1002"),
    ("Li", "payment 服务现在正常吗？"),
    ("Tom", "Open an urgent ticket for user U1024 about a broken screen"),
    ("Wang", "用户 U1031 付款 5000 元的风险高吗"),
    ("Ana", "Search the help articles for: how to reset my password"),
    ("Eve", "What is the status of order ZZ99?"),
    ("Li", "给我写一首关于春天的诗"),
    ("Wang", "取消工单 T501"),
    ("Eve", "thanks, bye"),
)


def tell() -> int:
    """Run the demo and return the exit code: 0 when every request was answered `ok`."""
    console = Console(highlight=False)
    started = time.monotonic()
    with ExitStack() as stack:
        environment = {
            f"{PREFIX}TOOLS__MODULES": '["daemon.demo.desk"]',
            f"{PREFIX}METRICS__PORT": "0",
            f"{PREFIX}LOG__LEVEL": os.environ.get(f"{PREFIX}LOG__LEVEL", "warning"),
        }
        if CLUSTER in os.environ:
            console.print(f"[dim]using the cluster at {os.environ[CLUSTER]}[/dim]")
        else:
            console.print("[dim]starting Apache Kafka and the daemon …[/dim]")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoglm-demo-")))
            environment["STATE_DIRECTORY"] = str(folder / "state")
            broker = stack.enter_context(EmbeddedBroker(folder / "kafka"))
            environment[CLUSTER] = broker.bootstrap_servers
        bundled_engine()
        stack.enter_context(DaemonProcess(environment))
        kafka = load().kafka.model_copy(
            update={"bootstrap_servers": environment.get(CLUSTER, os.environ.get(CLUSTER))}
        )
        replies, seconds = asyncio.run(_play(kafka, console, started))
        page.summary(console, replies, seconds)
    return 0 if len(replies) == len(SCENES) and all(reply.status == "ok" for reply in replies) else 1


async def _play(kafka: KafkaSettings, console: Console, started: float) -> tuple[list[Reply], float]:
    """Send every scene and print each as its reply comes. Returns the replies and the seconds it took."""
    replies: list[Reply] = []
    async with Client(kafka.connection(), kafka.request_topics[0], kafka.reply_topic) as client:
        begun = time.monotonic()
        waiting = list(SCENES)
        while waiting:
            size = 1 if len(replies) < ONE_BY_ONE else len(waiting)
            batch, waiting = waiting[:size], waiting[size:]
            sent = {
                await client.send({"query": text, "user_id": who}, key=who): (who, text)
                for who, text in batch
            }
            async for correlation, record in client.records(REPLY_SECONDS):
                if isinstance(record, Delta) or correlation not in sent:
                    continue
                replies.append(record)
                if len(replies) == 1:
                    console.print(
                        f"[dim]first reply {time.monotonic() - started:.1f} s after the command[/dim]\n"
                    )
                page.scene(console, *sent.pop(correlation), record)
                if not sent:
                    break
            if sent:
                console.print(f"[red]no reply within {REPLY_SECONDS:.0f} s to {len(sent)} requests[/red]")
                break
        return replies, time.monotonic() - begun
