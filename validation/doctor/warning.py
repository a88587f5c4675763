"""What a check may find beside a plain failure."""

from validation.errors import FleetError


class Doubt(FleetError):
    """It works now, and an operator should look all the same. It keeps no worker from starting."""
