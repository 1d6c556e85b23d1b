"""What outlives a process: the decision log and the release log, on SQLAlchemy (SQLite by default)."""
