"""What each stage of a promotion does, in order, in terms of the ports; Dagster is only told about it afterwards."""
