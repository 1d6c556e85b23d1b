"""From other people's files to canonical tables: schema, readers, validation, quarantine."""
