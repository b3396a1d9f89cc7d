"""One outside thing a module; foreign exceptions and types stop here."""
