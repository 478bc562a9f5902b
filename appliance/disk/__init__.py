"""Files: where they stand, how they get there durably, how much room is left."""
