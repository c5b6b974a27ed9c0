"""The folder where the printer picks up letters, each encrypted to the printer's certificate.

A run is a folder that appears whole, by a rename: its letters as CMS EnvelopedData (RFC 5652,
AES-256, DER) and `manifest.json`. Nothing in clear is ever written.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options

from shared.errors import SettingsError, StoreError
from shared.files import alone, sync_folder

MANIFEST = "manifest.json"
SUFFIX = ".pdf.p7m"
SMALLEST_KEY = 2048  # bits


class SpoolBusyError(StoreError):
    """Another process works in the folder."""


@dataclass(frozen=True)
class Printer:
    """The printer's public certificate."""

    certificate: x509.Certificate

    @classmethod
    def load(cls, path: Path, now: datetime) -> Self:
        """Read the certificate (PEM); SettingsError if it is missing, expired or of no use."""
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"{path}: ne peut pas être lu : {error.strerror}") from None
        except ValueError:
            raise SettingsError(f"{path}: n'est pas un certificat X.509 en PEM") from None
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise SettingsError(f"{path}: certificat hors de validité ; demandez le suivant")
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST_KEY:
            raise SettingsError(f"{path}: il faut une clé RSA de {SMALLEST_KEY} bits au moins")
        return cls(certificate)

    def encrypt(self, content: bytes) -> bytes:
        """Give CMS EnvelopedData that only the printer can open (DER)."""
        return (
            PKCS7EnvelopeBuilder()
            .set_data(content)
            .add_recipient(self.certificate)
            .set_content_encryption_algorithm(AES256)
            .encrypt(Encoding.DER, [PKCS7Options.Binary])
        )


@dataclass(frozen=True)
class Sheet:
    """A letter on its way into the spool, already encrypted."""

    letter_id: UUID
    kind: str
    content: bytes


class Spool:
    """The folder of all runs; mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process in the folder; SpoolBusyError if there is one already."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        with alone(self._folder, SpoolBusyError(f"{self._folder}: un autre tirage y est en cours")):
            yield

    def path(self, run_id: UUID) -> Path:
        """Say where the printer finds a run."""
        return self._folder / str(run_id)

    def published(self, run_id: UUID) -> set[UUID] | None:
        """Give the letters that a run's manifest names; None if the run is not there."""
        manifest = self.path(run_id) / MANIFEST
        if not manifest.exists():
            return None
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return {UUID(file["name"].removesuffix(SUFFIX)) for file in files}

    def publish(self, run_id: UUID, sheets: Iterable[Sheet]) -> None:
        """Write a run's folder, whole or not at all."""
        part = self._part(run_id)
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir(mode=0o700)
        files = [_write_sheet(part, sheet) for sheet in sheets]
        manifest = {"run": str(run_id), "count": len(files), "files": files}
        _write(part / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        sync_folder(part)
        part.rename(self.path(run_id))
        sync_folder(self._folder)

    def remove(self, run_id: UUID) -> None:
        """Take a run away, whole; nothing if it is not there."""
        part = self._part(run_id)
        shutil.rmtree(part, ignore_errors=True)
        if self.path(run_id).exists():
            self.path(run_id).rename(part)
            shutil.rmtree(part)
        sync_folder(self._folder)

    def _part(self, run_id: UUID) -> Path:
        return self._folder / f".{run_id}.part"


def _write_sheet(folder: Path, sheet: Sheet) -> dict[str, str | int]:
    """Write one letter; give its line of the manifest, which tells nothing of whom it is for."""
    name = f"{sheet.letter_id}{SUFFIX}"
    _write(folder / name, sheet.content)
    return {
        "name": name,
        "kind": sheet.kind,
        "size": len(sheet.content),
        "sha256": hashlib.sha256(sheet.content).hexdigest(),
    }


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
