"""The bell between the index and the workers.  Only this package imports `gearman`.

A Gearman job is a doorbell that carries a job id; which job is run, the index
says.  A lost, repeated or reordered ring does no harm.
"""
