-- The rights of the service's roles: the owner of the database gives them by `svi db grant`
-- (docs/securite.md). The audit is append-only for the service; another role purges it (D16).
GRANT USAGE ON SCHEMA public TO svi, svi_purge;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO svi;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO svi;
REVOKE UPDATE, DELETE ON audit, audit_link, audit_batch FROM svi;
GRANT UPDATE (before_sealed) ON audit TO svi;
GRANT SELECT, DELETE ON audit, audit_link, audit_batch, voided_entry TO svi_purge;
GRANT SELECT ON alembic_version, key_check TO svi_purge;
GRANT UPDATE (checkpoint) ON audit_batch TO svi_purge;
