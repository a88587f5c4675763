SELECT count(*) FROM validation_chunks
