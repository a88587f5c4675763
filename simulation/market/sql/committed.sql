-- committed: number, segments and seconds of audio of the committed shards.
SELECT count(*) AS shards, coalesce(sum(c.segments), 0) AS segments, coalesce(sum(c.audio_s), 0) AS audio_s
FROM validation_chunks c
WHERE c.state = 'committed';
