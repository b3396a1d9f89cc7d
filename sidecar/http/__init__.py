"""The three listeners: proxy, control and metrics."""
