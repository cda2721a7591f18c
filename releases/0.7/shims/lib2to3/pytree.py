class Base:
    """The one name that is imported. Never instantiated."""
