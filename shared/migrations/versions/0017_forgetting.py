"""What is forgotten is found by its age; letters that wait are not walked past by who sends SMS."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_message_urgent", "message")
    op.create_index("ix_message_urgent", "message", ["route", "state", "priority", "next_at"])
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index(
        "ix_message_ended", "message", ["ended_at"], sqlite_where=ended, postgresql_where=ended
    )
    op.create_index("ix_call_record_started", "call_record", ["started_at"])
    op.create_index("ix_session_expires", "session", ["expires_at"])
    if op.get_bind().dialect.name == "postgresql":
        # Or it takes the three for independent, letters that wait for SMS, and another index.
        op.execute("CREATE STATISTICS message_waiting (mcv) ON route, state, priority FROM message")
