"""What both testbeds are made of: processes and their logs, Dagster, Git, images, programs, and the state folder."""
