"""What a run can do, one ability per file."""
