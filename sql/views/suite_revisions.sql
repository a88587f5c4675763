-- suite_revisions: which suites, with which revisions of which models, have validated how much that is current. The
-- order in which they were first committed is the order in which readers prefer the later one.
CREATE OR REPLACE VIEW validation.suite_revisions AS
SELECT s.suite, s.revision, s.models,
       count(DISTINCT s.shard_key) FILTER (WHERE r.superseded_at IS NULL) AS shards,
       count(*)                    FILTER (WHERE r.superseded_at IS NULL) AS videos,
       coalesce(sum(r.segments)    FILTER (WHERE r.superseded_at IS NULL), 0) AS segments,
       min(s.committed_at) AS first_committed_at, max(s.committed_at) AS last_committed_at
FROM validation_shards s
JOIN validation_results r USING (shard_key)
GROUP BY s.suite, s.revision, s.models
ORDER BY first_committed_at, s.suite, s.revision;
