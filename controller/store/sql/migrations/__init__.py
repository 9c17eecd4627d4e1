"""Every change of the schema, in order. A revision that was released is never edited."""
