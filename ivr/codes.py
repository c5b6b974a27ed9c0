"""The codes that a dossier may hold, as prompts: a kind and a code, « droit-apl » (R38)."""

from collections.abc import Iterator

from ivr.prompts import Catalogue
from shared.rules import DossierCodes


def unspoken(codes: DossierCodes, catalogue: Catalogue) -> Iterator[str]:
    """Find the codes that could not be said: « key: reason »."""
    for kind, known in codes:
        for prompt in (f"{kind}-{code}" for code in sorted(known)):
            if prompt not in catalogue:
                yield f"dossier.codes.{kind}: il manque le message « {prompt} »"
