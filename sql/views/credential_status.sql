-- credential_status: every box that has a key, and when the first of its issued credentials expires. Shows no secret.
-- is_due: less than half of a credential's time is left, or one of the two is missing. The next tick renews it.
CREATE OR REPLACE VIEW validation.credential_status AS
SELECT k.worker_id, k.label, k.issued_at,
       extract(epoch FROM min(c.expires_at) - now())::real        AS expires_in_s,
       count(c.*) < 2 OR min(c.expires_at - now() - (c.expires_at - c.issued_at) / 2) < '0' AS is_due
FROM validation.box_keys k
LEFT JOIN validation.issued_credentials c ON c.worker_id = k.worker_id
LEFT JOIN public.fleet_instances i ON i.label = k.label
WHERE k.label IS NULL OR i.state NOT IN ('destroyed', 'gone')
GROUP BY k.worker_id, k.label, k.issued_at
ORDER BY k.worker_id;
