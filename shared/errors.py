"""What can go wrong in the store. No message ever holds a number, a name or a secret."""


class StoreError(Exception):
    """The store refused or failed; the base of all its errors."""


class StoreDownError(StoreError):
    """The database, or a key of the day, is out of reach: nothing was changed, try again later."""


class SettingsError(StoreError):
    """A settings or key file is wrong: « file: key: reason », on one line."""


class SealError(StoreError):
    """A sealed value was altered, or stands in a row that it was not sealed for (D13)."""


class SessionEndedError(StoreError):
    """The session is unknown, ended, expired, or older than an incident (D15)."""


class NotAllowedError(StoreError):
    """The session is open, but its person may not do this (R26 to R33)."""


class NotYetError(NotAllowedError):
    """The person may do this, but not while the dossier is a first claim (R32)."""


class UnavailableError(StoreDownError):
    """What is asked for can't be told now: its source is away, or what it told is too old."""


class DrainedError(StoreError):
    """A provider is out of service: no message is given to it."""


class ClosedError(StoreError):
    """Nobody may log in there for now: an incident was raised (D15)."""
