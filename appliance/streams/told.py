"""What is wrong with the streams, told to the log: once when it comes, once when it is mended."""

from __future__ import annotations

from appliance import logs
from appliance.streams.catalog import Streams


class Told:
    """What one process has logged of broken streams so far."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[str, ...]] = {}

    def tell(self, streams: Streams) -> None:
        """Log what is new since the last call."""
        wrong = {
            stream.folder.name: tuple(str(one) for one in stream.problems if one.stops)
            for stream in streams.all
            if not stream.is_good
        }
        titles = {stream.folder.name: stream.ae_title for stream in streams.all}
        for folder, problems in wrong.items():
            if self._wrong.get(folder) != problems:
                logs.get().warning(
                    "a stream is broken",
                    folder=folder,
                    stream=titles[folder],
                    problems=problems,
                    remedy=f"brookbox streams check {folder}",
                )
        for folder in self._wrong.keys() - wrong.keys() & titles.keys():
            logs.get().info("a stream is mended", folder=folder, stream=titles[folder])
        self._wrong = wrong
