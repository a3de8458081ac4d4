"""What stands in on a bare machine: embedded servers and the payment stand-in."""
