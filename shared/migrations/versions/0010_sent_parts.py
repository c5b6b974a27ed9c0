"""The SMS of a message, by the names that its provider's receipts have for them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sent_part",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["send_attempt.id"]),
        sa.PrimaryKeyConstraint("provider", "provider_id"),
    )
    op.create_index("ix_sent_part_attempt", "sent_part", ["attempt_id"])
    op.create_index("ix_sent_part_at", "sent_part", ["at"])
