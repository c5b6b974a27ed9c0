"""Which version of its template a message was made from; which codes were really sent."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("message", sa.Column("template_version", sa.String(), nullable=True))
    op.add_column("verification_code", sa.Column("sent", sa.Boolean(), nullable=True))
    code = sa.table("verification_code", sa.column("person_id"), sa.column("sent"))
    op.execute(code.update().values(sent=code.c.person_id.is_not(None)))
    with op.batch_alter_table("verification_code", schema=None) as batch_op:
        batch_op.alter_column("sent", existing_type=sa.Boolean(), nullable=False)
    of_nobody = sa.text("person_id IS NULL")
    op.create_index(
        "ix_verification_code_of_nobody",
        "verification_code",
        ["created_at"],
        sqlite_where=of_nobody,
        postgresql_where=of_nobody,
    )
