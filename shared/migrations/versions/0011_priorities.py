"""Which messages leave first."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# shared.models.Priority as it was then.
CODE, PASSWORD, NOTICE = 0, 1, 2
CODES = ("code", "code-old-mobile")
NOTICES = ("web-account-created", "letter-identifier")


def upgrade() -> None:
    op.add_column("message", sa.Column("priority", sa.Integer(), nullable=True))
    message = sa.table("message", sa.column("template"), sa.column("priority"))
    priority = sa.case(
        (message.c.template.in_(CODES), CODE),
        (message.c.template.in_(NOTICES), NOTICE),
        else_=PASSWORD,
    )
    op.execute(message.update().values(priority=priority))
    with op.batch_alter_table("message", schema=None) as batch_op:
        batch_op.alter_column("priority", existing_type=sa.Integer(), nullable=False)
        batch_op.create_index("ix_message_urgent", ["state", "priority", "next_at"], unique=False)
