"""The errors of the product, as a tree. Each one's docstring is its default message.

FigueiraError
├── Rejected          a caller asked for what cannot be (carries an HTTP status and a stable code)
├── Conflict          two writers met; the transaction is run again
├── StaleFlags        this process' flags are older than flag_floor(kind); refresh, then again
├── Unavailable       the database cannot be reached
├── StoreError        the database refuses a statement: another tenant's row, or a defect of ours
└── LeaseLost         another worker holds the job now; forget what you were about to write

Wrong configuration (`ConfigurationError`) stands outside on purpose: nothing may swallow it.
"""


class FigueiraError(Exception):
    """Something the product knows how to name."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").splitlines()[0])


class Rejected(FigueiraError):
    """The request cannot be carried out."""

    def __init__(self, code: str, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Conflict(FigueiraError):
    """Another writer was first; run the transaction again."""


class StaleFlags(FigueiraError):
    """These flags are older than the floor of their kind."""


class LeaseLost(FigueiraError):
    """The lease on this job has gone to another worker."""


class Unavailable(FigueiraError):
    """The database cannot be reached."""


class StoreError(FigueiraError):
    """The database refused a statement."""


class ConfigurationError(Exception):
    """What is wrong in the settings, where it stands, and how to mend it."""
