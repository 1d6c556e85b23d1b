"""How the tables of each log came to be, step by step (Alembic); `riskdistill.storage.schema` runs them."""
