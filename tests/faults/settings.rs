//! A judge's settings, resolved once for every command.
