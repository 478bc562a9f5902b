"""What a stream may do beyond the others, in sentences: its page and `streams check` say the same.

How a plain process is kept depends on the worker: its lane says whether the run is
confined, that is, sees nothing of the node's data.
"""

from __future__ import annotations

from appliance.streams.catalog import Stream

_AS_NOBODY = (
    "It runs as a plain process, as the user nobody: the data that the node keeps is hidden from "
    "it, but it is in no container and reads what every user of this machine may read."
)
_AS_THE_NODE = (
    "It runs as a plain process, as the node's own user: its time, memory and output are limited, "
    "but it can read everything that the node keeps, and it can use the network."
)
_MAYBE = (
    "It may be run as a plain process: by a worker that is root as the user nobody, from whom the "
    "data that the node keeps is hidden; by any other as the node's own user, who can read it all "
    "and can use the network."
)


def grants(stream: Stream, executor: str, *, is_confined: bool) -> tuple[str, ...]:
    """Say what this stream is granted, a sentence each; nothing of one that cannot serve.

    `executor` is container or process, "" while nobody runs it; `is_confined` counts for
    a process.
    """
    info = stream.info
    if info is None or not stream.is_good:
        return ()
    found = []
    if stream.contract == "magickbox":
        found.append(
            "MagickBox contract: it runs as root inside its container and gets a private, "
            "writable copy of its input."
        )
    elif executor == "process":
        found.append(_AS_NOBODY if is_confined else _AS_THE_NODE)
    elif not executor and _may_be_a_process(stream):
        found.append(_MAYBE)
    if info.network:
        found.append("It may use the network.")
    if info.changes_patient:
        found.append("Its results may carry another patient and study.")
    if info.memory:
        found.append("It keeps a folder of its own between jobs (/memory).")
    return tuple(found)


def _may_be_a_process(stream: Stream) -> bool:
    info = stream.good_info
    return stream.contract == "magickbox-host" or (info.trusted and bool(info.command))
