def doctor() -> None:
    """."""
