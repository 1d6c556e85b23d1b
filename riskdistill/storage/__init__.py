"""What outlives a process: decisions, releases, cases, suppressions and acts, in databases (SQLite by default)."""
