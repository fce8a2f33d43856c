"""The queues that are compared, and their servers: each private, on loopback, in a temporary folder."""
