"""What the service tells of itself: metrics, traces, logs, signed heads of the decision log."""
