"""Run config that several assets and jobs share."""

from dagster import Config
from pydantic import Field


class CatchUpConfig(Config):
    """Config of one bounded catch-up."""

    timeout_seconds: float = Field(600.0, gt=0, description="How long a layer may take to reach the newest data.")
