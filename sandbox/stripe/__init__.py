"""The payment stand-in: a process of its own that speaks Stripe's HTTP, keeps its own ledger and signs its webhooks.

Nothing here imports the engine, nor is imported by it: `process.StripeStandIn` starts it, HTTP is all between them.
"""
