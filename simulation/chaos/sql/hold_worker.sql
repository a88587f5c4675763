-- hold_worker: lock a worker's row until the transaction ends; no row if it is locked already. For chaos runs only.
SELECT w.worker_id FROM worker_validators w WHERE w.worker_id = :worker FOR UPDATE SKIP LOCKED;
