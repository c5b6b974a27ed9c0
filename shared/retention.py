"""What is forgotten when nothing looks at it any more."""

from datetime import timedelta

from sqlalchemy import delete

from shared import throttles
from shared.models import LoginSession
from shared.store import Store


def tidy(store: Store) -> None:
    """Forget old throttle counts, and sessions a day after they expired."""
    now = store.clock()
    with store.database.write() as transaction:
        throttles.purge(transaction, now)
        transaction.execute(
            delete(LoginSession).where(LoginSession.expires_at < now - timedelta(days=1))
        )
