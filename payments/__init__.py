"""The money: orders, attempts, intents, settlement and refunds."""
