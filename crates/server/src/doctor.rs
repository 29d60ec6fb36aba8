//! `walcast doctor`: what is wrong with a database, and the SQL that mends it.
