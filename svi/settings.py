"""Where this installation keeps its things and which ports it uses: environment variables."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ivr.script_files import DEFAULT_FOLDER
from shared.day_keys import DayKeys
from shared.letters.texts import DEFAULT_FILE as LETTER_TEXTS
from shared.rules import DEFAULT_FILE
from sms.providers.smpp import PORT, ReceiptIds
from sms.providers.smtp import Security
from sms.templates import DEFAULT_FILE as TEMPLATES

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

DRIVERS = {"sqlite", "postgresql+psycopg"}
HTTP = "http"
"""The operator that SVI_HTTP_PROVIDER describes, under a name of its own."""

SMS_PROVIDERS = ("smpp", HTTP, "twilio")

_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?")


class Settings(BaseSettings):
    """The variables, in capitals and after `SVI_`; a value that makes no sense is refused."""

    model_config = SettingsConfigDict(env_prefix="SVI_", frozen=True)

    home: Path = Field(default=Path("var"), description="database, keys, prompts, logs")
    keys: Path = Field(
        default_factory=lambda data: data["home"] / "keys.json",
        description="the key ring, outside the database (D13); mode 0600",
    )
    day_keys: Path = Field(
        default_factory=lambda data: DayKeys.beside(data["keys"]).folder,
        description="keys of the day's messages (D12): the same folder for all, in no backup",
    )
    database_url: str = Field(default="", description="default: SQLite in SVI_HOME", repr=False)
    rules: Path = Field(
        default=DEFAULT_FILE, description="limits that hold for every channel (D20)"
    )
    dialplans: Path = Field(default=DEFAULT_FOLDER, description="call script and Asterisk's files")
    asterisk: Path = Field(
        default=CACHE / "svi/asterisk-22", description="made by tools/asterisk.sh"
    )
    sip_host: str = Field(default="127.0.0.1", description="as callers reach it: not 0.0.0.0")
    sip_port: int = Field(default=5060, ge=1, le=65535)
    telephone_port: int = Field(
        default=4583, ge=0, le=65535, description="the page of svi up, for this machine alone"
    )
    ami: Path = Field(
        default_factory=lambda data: data["home"] / "ami.json",
        description="how to reach Asterisk's manager: JSON, host, port, user, secret",
    )
    agi_host: str = "127.0.0.1"
    agi_port: int = Field(default=4573, ge=0, le=65535)
    letters: Path | None = Field(default=None, description="default: SVI_HOME/letters")
    letter_texts: Path = Field(default=LETTER_TEXTS, description="what letters say (R09, R25)")
    printer: Path | None = Field(
        default=None, description="the printer's certificate, PEM; default: SVI_HOME/printer.pem"
    )
    templates: Path = Field(default=TEMPLATES, description="what messages say (D14)")
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=4580, ge=0, le=65535)
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=4581, ge=0, le=65535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="for Prometheus; without it no metrics"
    )
    sms_providers: str = Field(
        default="", description="for SMS, the preferred one first: smpp,http,twilio"
    )
    public_url: str = Field(default="", description="the gateway as providers reach it, no path")
    twilio_account: Path = Field(
        default=Path("twilio.json"), description="account_sid and auth_token; mode 0600"
    )
    twilio_url: str = "https://api.twilio.com"
    smpp_host: str = Field(default="", description="an SMSC, for the provider smpp")
    smpp_port: int = Field(default=PORT, ge=1, le=65535)
    smpp_tls: bool = Field(default=False, description="TLS, by the machine's certificates")
    smpp_account: Path = Field(
        default=Path("smpp.json"), description="system_id and password; mode 0600"
    )
    smpp_receipt_ids: ReceiptIds = Field(
        default=ReceiptIds.SAME, description="how receipts write what the SMSC's answers name"
    )
    http_provider: Path | None = Field(
        default=None, description="what describes an operator, for the provider http"
    )
    smtp_host: str = Field(default="", description="a mail server; without it no mail goes out")
    smtp_port: int = Field(default=0, ge=0, le=65535, description="0: the usual one")
    smtp_tls: Security = Field(
        default=Security.STARTTLS, description="by the machine's certificates"
    )
    smtp_account: Path | None = Field(
        default=None, description="user and password; mode 0600; without it no login"
    )
    smtp_sender: str = Field(default="", description="the address that mails come from")
    demo: bool = Field(default=False, description="invented dossiers; SMS and mails into a file")

    @field_validator("sip_host")
    @classmethod
    def _reachable(cls, host: str) -> str:
        """Refuse what no caller could send sound to: it is told to them as it is."""
        if host == "0.0.0.0":  # noqa: S104
            raise PydanticCustomError("sip_host", "il faut l'adresse que les appelants joignent")
        return host

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

    @field_validator("sms_providers")
    @classmethod
    def _known_once(cls, names: str) -> str:
        """Refuse a provider that there is not, or that is named twice."""
        order = _listed(names)
        for name in order:
            if name not in SMS_PROVIDERS:
                known = {"name": name, "known": ", ".join(SMS_PROVIDERS)}
                reason = "aucun fournisseur « {name} » ; il y a {known}"
                raise PydanticCustomError("sms_providers", reason, known)
            if order.count(name) > 1:
                reason = "{name} y est deux fois"
                raise PydanticCustomError("sms_providers", reason, {"name": name})
        return names

    @field_validator("public_url", "twilio_url")
    @classmethod
    def _of_http(cls, url: str) -> str:
        """Refuse an address that providers could not call: the first send would stop Twilio."""
        if url and not _WEB_ADDRESS.fullmatch(url):
            raise PydanticCustomError("url", "il faut une adresse comme https://sms.exemple.fr")
        return url

    @property
    def sms_order(self) -> Sequence[str]:
        """The providers of SMS, the preferred one first; without a choice whatever is set up."""
        if self.sms_providers:
            return _listed(self.sms_providers)
        return ["smpp"] if self.smpp_host else [HTTP] if self.http_provider else ["twilio"]

    @property
    def prompts(self) -> Path:
        """The audio of the prompts."""
        return self.home / "prompts"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.home / "logs"

    @property
    def messages(self) -> Path:
        """Where the messages of the demonstration are written, one JSON object a line."""
        return self.home / "sms.jsonl"

    @property
    def letters_folder(self) -> Path:
        """Where the printer picks up letters."""
        return self.letters or self.home / "letters"

    @property
    def printer_certificate(self) -> Path:
        """What letters are encrypted to."""
        return self.printer or self.home / "printer.pem"

    @property
    def url(self) -> str:
        """The database."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'svi.db'}"


def _listed(names: str) -> Sequence[str]:
    return [name.strip() for name in names.split(",")] if names.strip() else []
