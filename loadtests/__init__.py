"""Benchmarks (`make bench`) and load for people to look at (`make loadtest`). Production imports none of this."""
