"""How this process talks to the brokers: clients as we set them up, and topics."""
