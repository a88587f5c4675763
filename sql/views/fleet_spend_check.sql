-- fleet_spend_check: one row per fleet: over the last day's readings of the account, by how much the credit fell and by
-- how much the recorded spend rose. The recorded spend is an upper bound for one fleet: a credit that falls faster pays
-- for something else. Intervals in which the account was topped up are left out.
CREATE OR REPLACE VIEW validation.fleet_spend_check AS
SELECT fleet,
       coalesce(sum(credit_before - credit_usd), 0) AS credit_decrease_usd,
       coalesce(sum(spent_usd - spent_before), 0)   AS recorded_spend_usd,
       count(*)                                     AS intervals
FROM (
    SELECT r.fleet, r.credit_usd, r.spent_usd,
           lag(r.credit_usd) OVER (PARTITION BY r.fleet ORDER BY r.read_at) AS credit_before,
           lag(r.spent_usd)  OVER (PARTITION BY r.fleet ORDER BY r.read_at) AS spent_before
    FROM public.fleet_credit_readings r
    WHERE r.read_at > validation.fleet_now() - interval '24 hours'
) reading
WHERE credit_usd <= credit_before
GROUP BY fleet
ORDER BY fleet;
