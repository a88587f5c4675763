"""Videos with known answers: generated, queued, and compared with what each worker answered."""
