-- set_clock: let it be so late (Unix time), on a clock that simulate_clock made.
UPDATE validation.simulated_clock SET at = to_timestamp(:now);
