-- hold_worker: lock a worker's row until the transaction ends, for the chaos run alone. No row: somebody holds it.
SELECT w.worker_id FROM worker_validators w WHERE w.worker_id = :worker FOR UPDATE SKIP LOCKED;
