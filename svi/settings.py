"""Where this installation keeps its things and which ports it uses: environment variables."""

import os
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ivr.script_files import DEFAULT_FOLDER
from shared.rules import DEFAULT_FILE
from sms.providers.twilio import API
from sms.templates import DEFAULT_FILE as TEMPLATES

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

DRIVERS = {"sqlite", "postgresql+psycopg"}


class Settings(BaseSettings):
    """The variables, in capitals and after `SVI_`; a value that makes no sense is refused."""

    model_config = SettingsConfigDict(env_prefix="SVI_", frozen=True)

    home: Path = Field(default=Path("var"), description="database, keys, prompts, logs")
    database_url: str = Field(default="", description="default: SQLite in SVI_HOME", repr=False)
    rules: Path = Field(
        default=DEFAULT_FILE, description="limits that hold for every channel (D20)"
    )
    dialplans: Path = Field(default=DEFAULT_FOLDER, description="call script and Asterisk's files")
    asterisk: Path = Field(
        default=CACHE / "svi/asterisk-22", description="made by tools/asterisk.sh"
    )
    sip_host: str = "127.0.0.1"
    sip_port: int = Field(default=5060, ge=1, le=65535)
    agi_host: str = "127.0.0.1"
    agi_port: int = Field(default=4573, ge=0, le=65535)
    templates: Path = Field(default=TEMPLATES, description="what messages say (D14)")
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=4580, ge=0, le=65535)
    public_url: str = Field(default="", description="the gateway as Twilio reaches it, no path")
    twilio_account: Path = Field(
        default=Path("twilio.json"), description="account_sid and auth_token; mode 0600"
    )
    twilio_url: str = API

    @field_validator("database_url")
    @classmethod
    def _of_a_known_kind(cls, url: str) -> str:
        """Refuse other databases, without quoting what may hold a password."""
        try:
            known = url == "" or make_url(url).drivername in DRIVERS
        except (ArgumentError, ValueError):
            known = False
        if not known:
            raise PydanticCustomError(
                "database_url",
                "il faut sqlite:////chemin/svi.db ou postgresql+psycopg://utilisateur@machine/base",
            )
        return url

    @property
    def keys(self) -> Path:
        """The key ring, outside the database (D13)."""
        return self.home / "keys.json"

    @property
    def prompts(self) -> Path:
        """The audio of the prompts."""
        return self.home / "prompts"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.home / "logs"

    @property
    def ami(self) -> Path:
        """How to reach Asterisk's manager interface: JSON, host, port, user, secret."""
        return self.home / "ami.json"

    @property
    def messages(self) -> Path:
        """Where `svi up` writes the SMS of the demonstration, one JSON object a line."""
        return self.home / "sms.jsonl"

    @property
    def url(self) -> str:
        """The database."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'svi.db'}"
