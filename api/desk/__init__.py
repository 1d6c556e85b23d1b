"""What people work with: alerts, cases, suppressions, explanations, releases."""
