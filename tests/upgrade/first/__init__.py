"""Modules of ``workers`` as they were while RQ's jobs were pickled, on queues without a version in their name."""
