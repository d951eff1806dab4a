//! Rows and columns as people have them.
