"""The worker: runs the jobs of the streams that it can run, one lane for each seat."""
