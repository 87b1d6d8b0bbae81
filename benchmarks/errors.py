"""What a user can get wrong on the command line."""


class BenchmarkError(ValueError):
    """Bad input, told in one line that says what is possible. Nothing has been measured then."""
