"""Jobs on a Ray cluster that is reached over HTTP: its job server, what is sent along, and what comes back."""
