"""Streams: folders with an info.json, as they stand in the streams folder now."""
