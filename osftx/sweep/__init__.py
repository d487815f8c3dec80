"""Many runs as one: each job leaves a record, and the end of the sweep makes one table and one report of them."""
