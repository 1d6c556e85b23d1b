"""Distillation: a student learns from a teacher by a sum of named terms."""
