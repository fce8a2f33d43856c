"""Programs of the benchmark that submit and run jobs: one module for each queue. Peers' modules run in `.venv-peers`."""
