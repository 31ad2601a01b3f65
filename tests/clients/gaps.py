"""What does not arrive, and why: by client, case (`*`: every case) and field. A gap that closes fails its test."""

GAPS: dict[tuple[str, str, str], str] = {}
