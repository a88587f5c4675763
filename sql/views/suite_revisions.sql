-- suite_revisions: each suite with its model revisions, and how much of it is current. Readers prefer the revision that
-- was first committed last.
CREATE OR REPLACE VIEW validation.suite_revisions AS
SELECT s.suite, s.revision, s.models,
       count(DISTINCT s.shard_key) FILTER (WHERE r.superseded_at IS NULL) AS shards,
       count(*)                    FILTER (WHERE r.superseded_at IS NULL) AS videos,
       coalesce(sum(r.segments)    FILTER (WHERE r.superseded_at IS NULL), 0) AS segments,
       min(s.committed_at) AS first_committed_at, max(s.committed_at) AS last_committed_at
FROM public.validation_shards s
JOIN public.validation_results r USING (shard_key)
GROUP BY s.suite, s.revision, s.models
ORDER BY first_committed_at, s.suite, s.revision;
