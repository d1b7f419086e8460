"""server.properties of a single KRaft node that listens on the loopback address only."""

from collections.abc import Mapping
from pathlib import Path

# 16 bytes in base64url: one fixed id, so that data survives a new version of this project.
CLUSTER_ID = "b3Blbi1hdXRvZ2xtLTAwMQ"


def server_properties(data: Path, port: int, controller_port: int, extra: Mapping[str, str]) -> str:
    """Text of the file. The voter is named statically, so the controller's port may differ at each start."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(data / "log"),
        "auto.create.topics.enable": "false",
        # A single node cannot replicate, and few partitions of the internal topics start faster.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # After a crash the node is let in again only when its former session has run out.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "400",
        # The first member need not wait for others, and a crashed one may be replaced soon.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "500",
        **extra,
    }
    return "".join(f"{key}={_escaped(value)}\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """As java.util.Properties reads it, which takes bytes for Latin-1: ASCII, with UTF-16 in escapes."""
    units = value.replace("\\", r"\\").encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
