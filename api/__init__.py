"""The HTTP API: Litestar's routes over the engine (holds, product reads) and over payments and persistence."""
