"""The web page: a fleet in a browser.

`server` has the routes and what protects them, `fleet` talks to the dispatcher, `accounts` and `sessions` know who looks,
`pages` and `throughput` prepare what the templates show. Nothing here decides about jobs: an action on the page is the same
order as that of a command.
"""
