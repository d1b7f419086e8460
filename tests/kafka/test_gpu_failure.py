"""A GPU that stops answering under a daemon: requests are handed back, the process says so and ends with 74.

The GPU is emulated; the daemon, its process and the broker are not.
"""

import json
import shutil
from pathlib import Path

import pytest

from daemon.bundled import CHECKPOINT
from daemon.demo.process import DaemonProcess
from daemon.kafka.client import Client
from engines.build import build
from engines.manifest import FileEntry, Manifest
from tests.kafka.test_daemon import environment
from tests.kafka.traffic import committed, create_topic, put, read, settings
from tests.unit.gpu.emulated_runtime import plan_of
from tests.unit.gpu.emulator import compile_emulated

MODULE = Path(__file__).with_name("emulated_gpu.py")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("executing the CUDA C source on the CPU needs g++, which is not installed")
    folder = tmp_path_factory.mktemp("kernels")
    compile_emulated(folder)
    return folder / "kernels.so"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The bundled model as a TensorRT engine of the emulation, whose plans are ONNX graphs."""
    folder = tmp_path_factory.mktemp("engine") / "desk"
    built = build(CHECKPOINT, folder, dialects=("standard",), name="desk")
    plan = folder / "model.plan"
    plan.write_bytes(b"graph:" + str(folder / built.graphs["standard"]).encode())
    built.model_copy(
        update={
            "plan": plan_of(2048, 4, chunk=256),
            "runtime": "tensorrt",
            "files": built.files | {"model.plan": FileEntry.of(plan)},
        }
    ).save(folder)
    assert Manifest.load(folder).runtime == "tensorrt"
    return folder


@pytest.mark.timeout(300)  # two daemons, one of which is waited for until it gives up
async def test_a_hung_step_ends_the_daemon_and_its_requests_are_answered_by_the_next(
    broker, name, engine, kernels, tmp_path
):
    kafka = settings(broker.bootstrap_servers, name)
    await create_topic(kafka.bootstrap_servers, kafka.request_topics[0], 1)
    hang, log = tmp_path / "hang", tmp_path / "daemon.log"
    chosen = environment(
        kafka,
        tmp_path,
        AUTOGLM_ENGINE__PATH=str(engine),
        AUTOGLM_ENGINE__DEVICE="0",
        AUTOGLM_TOOLS__MODULES=json.dumps([str(MODULE), "daemon.demo.desk"]),
        AUTOGLM_LOG__FORMAT="json",
        EMULATED_KERNELS=str(kernels),
        EMULATED_HANG=str(hang),
    )
    daemon = DaemonProcess(chosen, log)
    daemon.start()
    async with Client(kafka.connection(), kafka.request_topics[0], kafka.reply_topic) as client:
        await client.send({"query": "hello"})
        async for _, reply in client.records(60.0):
            assert reply.status == "ok" and reply.model == "desk"
            break
    hang.touch()
    requests = [{"id": f"r{number}", "query": "hello", "tools": []} for number in range(6)]
    await put(
        kafka.bootstrap_servers,
        kafka.request_topics[0],
        [(b"k%d" % number, json.dumps(one).encode()) for number, one in enumerate(requests)],
    )
    assert daemon.process.wait(60) == 74
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("GPU memory 8.00 GiB" in line["event"] for line in lines), "no memory plan"
    errors = [line for line in lines if line["level"] == "error"]
    assert errors and all("the GPU has not finished a step after 1 s" in str(line) for line in errors)
    assert not any("exception" in line for line in lines), "a traceback tells the operator nothing"
    marks = await committed(kafka.bootstrap_servers, kafka.group_id)
    assert [offset for offset, _ in marks.values()] == [1], "requests that have no answer were committed"

    hang.unlink()
    with DaemonProcess(chosen, log):
        replies = [json.loads(r.value) for r in await read(kafka.bootstrap_servers, kafka.reply_topic, 7)]
    assert sorted(reply["id"] for reply in replies[1:]) == [one["id"] for one in requests]
    assert {reply["status"] for reply in replies} == {"ok"}
