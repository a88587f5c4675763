-- set_version: record migration {revision}, in the transaction that made it.
DELETE FROM validation.alembic_version;
INSERT INTO validation.alembic_version VALUES ('{revision}');
