"""What becomes of an instance that came: kept, recorded, or put into quarantine."""
