"""How answers and offsets leave, whatever the delivery promise."""
