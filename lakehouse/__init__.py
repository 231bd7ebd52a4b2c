"""A streaming lakehouse for crypto trades. Knows nothing of Dagster and runs without it."""
