//! Connections to PostgreSQL for questions.
