"""The erasure of a patient or a study: all of it, for good, whatever is killed meanwhile."""
