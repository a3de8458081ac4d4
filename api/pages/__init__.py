"""The pages for people: the live page of the operators at ``/ops``, and a shop window at ``/shop``."""
