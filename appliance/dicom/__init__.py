"""Facts of the standard: names, statuses, headers, Part 10 files."""
