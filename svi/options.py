"""Options that several commands share."""

import click

caisse_option = click.option(
    "--caisse", metavar="CAISSE", required=True, help="La caisse, par exemple 92."
)
number_option = click.option(
    "--number", metavar="NUMÉRO", required=True, help="Les 7 chiffres du numéro."
)
