"""Which GPU: by index or by UUID."""

from collections.abc import Sequence

from engines.errors import DeviceNotFound


def choose_device(wanted: str | int | None, uuids: Sequence[str]) -> int:
    """Index of the device. uuids: of the visible devices, in CUDA's order, like "GPU-5f3c…".

    wanted: an index, a UUID or the beginning of one ("GPU-" or "MIG-" may be left out), None for the first.
    Raises DeviceNotFound naming the devices there are.
    """
    listed = ", ".join(f"{index}: {uuid}" for index, uuid in enumerate(uuids))
    if not uuids:
        raise DeviceNotFound("no CUDA device is visible; see nvidia-smi and CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return 0
    text = str(wanted).strip()
    if text.isdecimal() and int(text) < len(uuids):
        return int(text)
    prefix = _plain(text)
    matching = [index for index, uuid in enumerate(uuids) if _plain(uuid).startswith(prefix)]
    if prefix and len(matching) == 1:
        return matching[0]
    problem = "more than one device is" if len(matching) > 1 and prefix else "no device is"
    raise DeviceNotFound(f"{problem} {text!r}; there are {listed}")


def _plain(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-").replace("-", "")
