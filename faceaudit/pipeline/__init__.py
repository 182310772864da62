"""From images to tables: the streaming pipeline behind `predict` and `prepare`."""
