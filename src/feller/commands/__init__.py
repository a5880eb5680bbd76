"""What the command line offers: flags, one command a file. The work is done in journeys."""
