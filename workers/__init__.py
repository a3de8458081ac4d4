"""RQ workers as time slices: drain, sweep and payments, and the scheduler that wakes them."""
