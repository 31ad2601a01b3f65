"""What the API takes and gives of how long logs are kept."""

from pydantic import Field

from tunemill.curator_api.payloads import Given, Taken

LONGEST_DAYS = 36_500
LEAST_BYTES = 1_000_000


class RetentionIn(Taken):
    """How long logs are kept; null, or left out: without that limit."""

    max_age_days: int | None = Field(None, ge=1, le=LONGEST_DAYS, description="by when the call was made")
    max_bytes: int | None = Field(None, ge=LEAST_BYTES, le=2**62, description="of the logs on the index's disk")
    dry_run: bool = Field(False, description="only say how many logs it would drop now")


class RetentionOut(Given):
    """How long logs are kept, how much there is, and how many logs of that are due."""

    max_age_days: int | None
    max_bytes: int | None
    by: str | None
    updated_ms: int | None
    logs: int
    bytes: int
    due: int = Field(description="logs that are kept no longer")
