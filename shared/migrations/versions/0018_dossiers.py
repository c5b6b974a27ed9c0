"""What the information system tells of dossiers, sealed; how far caisses have got with claims.

The table of payments goes: nothing but the demonstration ever filled it, and payments are a section
of what is told.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dossier_section",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("section", sa.String(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content_sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"]),
        sa.PrimaryKeyConstraint("account_id", "section"),
    )
    op.create_index("ix_dossier_section_as_of", "dossier_section", ["as_of"])
    op.create_table(
        "processing_delay",
        sa.Column("caisse", sa.String(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delays", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("caisse"),
    )
    op.drop_table("payment")
