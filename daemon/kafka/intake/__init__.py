"""Which request may run, and when."""
