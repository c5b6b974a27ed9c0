"""Campaigns: the same message to many, each held until its turn."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("template", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("sender", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client", "name"),
    )
    with op.batch_alter_table("message") as batch:
        batch.add_column(sa.Column("sender", sa.String(), nullable=True))
        batch.add_column(sa.Column("subject", sa.String(), nullable=True))
        batch.add_column(sa.Column("campaign_id", sa.Uuid(), nullable=True))
        batch.add_column(sa.Column("zone", sa.String(), nullable=True))
        batch.create_foreign_key("message_campaign", "campaign", ["campaign_id"], ["id"])
    of_campaign = sa.text("campaign_id IS NOT NULL")
    for name, columns, unique in (
        ("ix_message_campaign", ["campaign_id", "state", "zone"], False),
        ("ix_message_campaign_contact", ["campaign_id", "destination_index"], True),
    ):
        op.create_index(
            name,
            "message",
            columns,
            unique=unique,
            sqlite_where=of_campaign,
            postgresql_where=of_campaign,
        )
    of_none = sa.text("campaign_id IS NULL")
    op.create_index(
        "ix_message_of_no_campaign",
        "message",
        ["created_at"],
        sqlite_where=of_none,
        postgresql_where=of_none,
    )
