"""Profiles, drift, sequential tests and rollback."""
