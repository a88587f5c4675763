-- issued_credentials: every machine that has a key, and how long what it was lent still lasts. No key and no credential is shown.
-- is_due: less than half is left of one of the two, or there is none. The fleet's next tick renews it.
CREATE OR REPLACE VIEW validation.issued_credentials AS
SELECT k.worker_id, k.label, k.issued_at,
       extract(epoch FROM min(c.expires_at) - now())::real        AS lasts_s,
       count(c.*) < 2 OR min(c.expires_at - now() - (c.expires_at - c.lent_at) / 2) < '0' AS is_due
FROM validation.box_keys k
LEFT JOIN validation.lent_credentials c ON c.worker_id = k.worker_id
LEFT JOIN fleet_instances i ON i.label = k.label
WHERE k.label IS NULL OR i.state NOT IN ('destroyed', 'gone')
GROUP BY k.worker_id, k.label, k.issued_at
ORDER BY k.worker_id;
