-- suspect_shards: the committed shards of distrusted machines whose videos were not taken back, nor committed again.
CREATE OR REPLACE VIEW validation.suspect_shards AS
SELECT d.known_as, c.worker_id, c.shard_key, c.closed_at AS committed_at, count(*) AS videos,
       sum(q.validation_segments) AS segments
FROM validation.distrusted_workers d
JOIN validation_chunks c ON c.worker_id = d.worker_id AND c.machine IS NOT DISTINCT FROM d.machine
                        AND c.state = 'committed'
JOIN video_queue q       ON q.validation_chunk = c.chunk_id AND q.validation_status = 'validated'
WHERE NOT d.is_excused
GROUP BY d.known_as, c.worker_id, c.shard_key, c.closed_at
ORDER BY d.known_as, c.shard_key;
