"""Making the student smaller and faster: 8-bit weights, early exits, pruning, and the search for its size."""
