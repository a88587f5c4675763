-- wanted_labels: the labels of all machines that the books know to bill, or not to have proven gone.
SELECT i.label FROM fleet_instances i WHERE i.state <> 'gone';
