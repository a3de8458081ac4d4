"""The routes of the contract: each says what it takes, what it answers and how it can fail, and calls what does it."""
