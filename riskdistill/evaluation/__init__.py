"""Evaluation at natural prevalence: what is measured, and the page that a person reads."""
