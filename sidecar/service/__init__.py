"""What is done: asks the domain, drives the ports; knows asyncio and no other library."""
