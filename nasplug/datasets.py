"""The tasks that come with nasplug."""
