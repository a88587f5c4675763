-- set_clock: set the clock that simulate_clock created (Unix time).
UPDATE validation.simulated_clock SET at = to_timestamp(:now);
