-- wanted_labels: the labels of all boxes that are not proven to be gone.
SELECT i.label FROM fleet_instances i WHERE i.state <> 'gone';
