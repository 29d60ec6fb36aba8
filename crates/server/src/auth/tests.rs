//! Tokens of every algorithm, and what is wrong with others.
