"""What a user is told: one line that says what is wrong, where, and what to do."""


class OwnlmError(Exception):
    """A mistake that the user can mend. The CLI prints its one line and exits 2, with no traceback."""


class DamagedError(OwnlmError):
    """A file on disk is not what its card says: changed, cut short, or of another kind."""
