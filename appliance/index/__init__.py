"""The index: what is where, and what state it is in.  Only this package speaks SQL."""
