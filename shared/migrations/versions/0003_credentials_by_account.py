"""An index that finds a dossier's credentials: PostgreSQL can't use the partial ones for it."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_credential_account", "credential", ["account_id"])
