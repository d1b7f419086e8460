"""Header names that are not UTF-8, which anyone may send and aiokafka 0.14 cannot read.

Its parser decodes names strictly: one such name makes every reading of the partition fail at that record,
after a restart as well. Java's client puts U+FFFD for what is not UTF-8; so do we.
"""

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import MemoryRecords, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint_py


class _Buffer(bytearray):
    """Of which parts decode whatever they hold."""

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _Buffer(part) if isinstance(at, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _Buffer(self._buffer)

    def _read_msg(self) -> Any:
        return super()._read_msg(decode_varint_py)  # the compiled one takes a plain bytearray only


class _LenientMemory(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self) -> Any:
        data = self._next_slice
        batch = super().next_batch()
        return _LenientBatch(data) if isinstance(batch, DefaultRecordBatch) else batch


class _Memory(MemoryRecords):  # type: ignore[misc]
    """As it came from the broker; remembers the bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _Records(PartitionRecords):  # type: ignore[misc]
    """Reads the compiled way, and from the first name on that it cannot read, the lenient one."""

    def __init__(self, partition: Any, records: Any, aborted: Any, offset: int, *more: Any) -> None:
        super().__init__(partition, records, aborted, offset, *more)
        self._again = partition, records, aborted, more

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except (UnicodeDecodeError, CorruptRecordException) as error:
            if not isinstance(error.__cause__ or error, UnicodeDecodeError):
                raise
            partition, records, aborted, more = self._again
            self.__init__(  # type: ignore[misc]
                partition, _LenientMemory(records.data), aborted, self.next_fetch_offset, *more
            )
            return super().__next__()


def accept_any_header_name() -> None:
    """For every consumer of this process."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = _Memory, _Records
