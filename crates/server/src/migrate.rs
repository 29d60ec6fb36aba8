//! `walcast migrate`: applies `sql/`.
