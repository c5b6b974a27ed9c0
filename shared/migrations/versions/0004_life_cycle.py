"""Life cycle of credentials, accounts of persons on the web, the change feed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "change",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("credential_id", "event"),
    )
    op.create_table(
        "web_account",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("nir_index", sa.LargeBinary(), nullable=True),
        sa.Column("provisional_index", sa.LargeBinary(), nullable=True),
        sa.Column("provisional_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["person_id"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("web_account", schema=None) as batch_op:
        batch_op.create_index(
            "ix_web_account_nir",
            ["nir_index"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.create_index("ix_web_account_person", ["person_id"], unique=False)
        batch_op.create_index("ix_web_account_provisional", ["provisional_index"], unique=True)

    with op.batch_alter_table("account", schema=None) as batch_op:
        batch_op.add_column(sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("moved_to", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key("fk_moved_to", "account", ["moved_to"], ["id"])

    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.add_column(sa.Column("web_account_id", sa.Uuid(), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.String(), nullable=True))
        batch_op.add_column(
            sa.Column("provisional", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        batch_op.add_column(sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("ended_by", sa.String(), nullable=True))
        batch_op.alter_column("account_id", existing_type=sa.Uuid(), nullable=True)
        batch_op.create_index(
            "ix_credential_one_web",
            ["web_account_id"],
            unique=True,
            sqlite_where=sa.text("state = 'active'"),
            postgresql_where=sa.text("state = 'active'"),
        )
        batch_op.create_foreign_key("fk_web_account_id", "web_account", ["web_account_id"], ["id"])
        batch_op.create_check_constraint(
            "ck_credential_one_owner", "(account_id IS NULL) <> (web_account_id IS NULL)"
        )
    op.execute(
        "UPDATE credential SET origin = CASE WHEN route IS NULL THEN 'given' ELSE 'forgotten' END"
    )
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.alter_column("origin", existing_type=sa.String(), nullable=False)

    with op.batch_alter_table("person", schema=None) as batch_op:
        batch_op.add_column(sa.Column("email_since", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("address_before_sealed", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("delegated_at", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.add_column(sa.Column("person_id", sa.Uuid(), nullable=True))
        batch_op.add_column(
            sa.Column("change_only", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        batch_op.create_foreign_key("fk_person_id", "person", ["person_id"], ["id"])
