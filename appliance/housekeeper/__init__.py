"""The housekeeper: makes room, keeps backups, restarts what hangs."""
