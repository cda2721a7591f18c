//! External programs as data.
