"""What is done and must stay so across crashes: offsets, notes of tool calls, earlier replies."""
