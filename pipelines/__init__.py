"""The jobs that a person or a scheduler runs, and the command line."""
