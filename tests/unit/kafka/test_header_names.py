"""Records as brokers give them, through the client's own unpacking."""

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, memory_records
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from daemon.kafka import header_names

PARTITION = TopicPartition("requests", 0)
CODECS = range(5)  # none, gzip, Snappy, LZ4, Zstandard


def batch(*records, codec=0, producer=-1):
    """records: (offset, key, header names as bytes)."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, producer >= 0, producer, 0, 0, 1 << 20)
    builder._first_offset = records[0][0]
    for number, (_, key, names) in enumerate(records):
        builder.append(number, 1_000, key, b"value", [(Name(name), b"1") for name in names])
    built = bytearray(builder.build())
    built[:8] = records[0][0].to_bytes(8, "big")
    return bytes(built)


class Name(str):
    """A name of any bytes, which Python's own clients would not send."""

    def __new__(cls, raw):
        self = super().__new__(cls, raw.decode("latin-1"))
        self.raw = raw
        return self

    def encode(self, *_):
        return self.raw


def unpacked(data, offset=0, aborted=(), memory=header_names._Memory):
    return header_names._Records(PARTITION, memory(data), list(aborted), offset, None, None, True, 1)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_not_utf8_in_a_name_is_replaced_and_nothing_else_is_lost(codec):
    first = batch((0, b"a", [b"good"]), (1, b"b", [b"x", b"\xff\xfename"]), (2, b"c", []), codec=codec)
    last = batch((3, None, ["ß".encode(), b"\xdf"]), codec=codec)
    records = unpacked(first + last)
    assert [(one.offset, one.key, [name for name, _ in one.headers]) for one in records] == [
        (0, b"a", ["good"]),
        (1, b"b", ["x", "\ufffd\ufffdname"]),
        (2, b"c", []),
        (3, None, ["ß", "\ufffd"]),
    ]
    assert records.next_fetch_offset == 4


def test_reading_begins_where_it_was_asked_to():
    data = batch((0, b"a", [b"\xff"]), (1, b"b", [b"\xff"]), (2, b"c", [b"\xff"]))
    assert [one.offset for one in unpacked(data, offset=1)] == [1, 2]


def test_aborted_records_stay_aborted():
    data = batch((0, b"a", [b"\xff"]), producer=7) + batch((1, b"b", [b"\xff"]), producer=8)
    assert [one.offset for one in unpacked(data, aborted=[(7, 0)])] == [1]


@pytest.mark.parametrize("name", [b"name", b"\xff"])
def test_what_was_damaged_on_its_way_is_refused(name):
    data = bytearray(batch((0, b"a", [name])) + batch((1, b"b", [name])))
    data[-1] ^= 1
    records = unpacked(bytes(data))
    assert next(records).offset == 0
    with pytest.raises(CorruptRecordException):
        next(records)


class PurePython(memory_records._MemoryRecordsPy):
    def __init__(self, data):
        super().__init__(data)
        self.data = data


def test_without_the_clients_compiled_parts(monkeypatch):
    for module in (memory_records, header_names):
        monkeypatch.setattr(module, "DefaultRecordBatch", default_records._DefaultRecordBatchPy)
    records = unpacked(batch((0, b"a", [b"\xff"])), memory=PurePython)
    assert [one.headers for one in records] == [(("\ufffd", b"1"),)]
