"""Models: the event transformer at any size, boosted trees, and what they share."""
