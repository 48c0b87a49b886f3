"""The compiled room: arrays in, arrays out. No state's name, no file, no clock, no printing in here."""
