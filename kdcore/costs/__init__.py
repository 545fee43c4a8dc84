"""What models cost to run: read from what runs noted, and put together as the points of one plot."""
