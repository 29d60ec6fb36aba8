//! The configuration: one tree, each option declared once.
